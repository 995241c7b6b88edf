package node

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

// Export returns the document from which the chain of a home goes on: what its
// ledger was at the last block that this node has. The node must not run,
// mman.ErrOtherHolder; nothing of the home is changed.
func Export(home string, log *slog.Logger) (doc genesis.Document, err error) {
	cfg, err := LoadConfig(home)
	if err != nil {
		return doc, err
	}
	if _, err := ReadGenesis(home); err != nil {
		return doc, err
	}
	db, err := store.Open(store.DefaultConfig(filepath.Join(home, folderStore), log))
	if err != nil {
		return doc, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	app, err := abci.New(abci.Config{DB: db.State(), Log: log, Plan: cfg.Upgrades})
	if err != nil {
		return doc, err
	}
	if _, err := app.Chain(); err != nil {
		return doc, err
	}
	if doc, err = app.Export(); err != nil {
		return doc, err
	}
	doc.State.Time, err = consensus.BlockTime(db.Data(), doc.State.Height)
	return doc, err
}
