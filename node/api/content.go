package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/library"
	"github.com/limboid/massive-man/p2p/content"
)

// Library keeps what the node's owner gives to everybody; *library.Library is one.
type Library interface {
	Add(ctx context.Context, path string, tell func(content.Progress)) (library.Item, error)
	Import(ctx context.Context, path string, tell func(content.Progress)) ([]library.Item, error)
	Items() ([]library.Item, error)
	Remove(ctx context.Context, root mman.CID, kept []mman.CID) (library.Item, uint64, error)
}

// line is one line of an answer that takes long: how far it is, and at last the
// items or the error.
type line struct {
	Done  uint64         `json:"done,omitempty"`
	Total uint64         `json:"total,omitempty"`
	Items []library.Item `json:"items,omitempty"`
	Error *failure       `json:"error,omitempty"`
}

type failure struct {
	Code mman.Code `json:"code"`
	Text string    `json:"text"`
}

// given lists what everybody may have of this node.
func (s *Server) given(w http.ResponseWriter, _ *http.Request) {
	items, err := s.cfg.Library.Items()
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusOK, map[string]any{"items": items})
}

// give adds a file or folder of this machine, or what a CAR file holds. The answer
// is a line of JSON now and then, the last with the items or the error.
func (s *Server) give(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Path string `json:"path"`
		CAR  bool   `json:"car"`
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(&body)
	if err == nil && dec.More() {
		err = mman.ErrInvalid
	}
	if err != nil || !filepath.IsAbs(body.Path) {
		s.fail(w, http.StatusBadRequest, fmt.Errorf(`%w: send {"path": "/absolute/path", "car": false}`, mman.ErrInvalid))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	say := func(l line) {
		err := json.NewEncoder(w).Encode(l)
		if err = errors.Join(err, out.Flush()); err != nil {
			s.cfg.Logger.Debug("progress not sent", slog.Any("error", err))
		}
	}
	tell := func(p content.Progress) { say(line{Done: p.Done, Total: p.Total}) }
	var items []library.Item
	if body.CAR {
		items, err = s.cfg.Library.Import(r.Context(), body.Path, tell)
	} else {
		var item library.Item
		item, err = s.cfg.Library.Add(r.Context(), body.Path, tell)
		items = []library.Item{item}
	}
	if err != nil {
		say(line{Error: &failure{mman.CodeOf(err), err.Error()}})
		return
	}
	say(line{Items: items})
}

// takenBack is what everybody may have no more.
type takenBack struct {
	library.Item

	Freed uint64 `json:"freed_bytes"`
}

// takeBack stops giving what was added, and deletes what nothing else needs.
func (s *Server) takeBack(w http.ResponseWriter, r *http.Request) {
	var out takenBack
	root, err := mman.ParseCID(r.PathValue("root"))
	if err == nil {
		err = s.cfg.Provider.Keeping(r.Context(), func(ctx context.Context, kept []mman.CID) (err error) {
			out.Item, out.Freed, err = s.cfg.Library.Remove(ctx, root, kept)
			return err
		})
	}
	if err != nil {
		s.fail(w, status(err), err)
		return
	}
	s.answer(w, http.StatusOK, out)
}
