package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
)

// interpreterSearch bounds how long others are asked who has an interpreter.
const interpreterSearch = 3 * time.Second

// interpreter makes sure that an interpreter is on the shelf, if somebody on the
// network has it; here is false when only the consumer is left to be asked.
func (p *Provider) interpreter(ctx context.Context, i resources.Interpreter) (here bool, err error) {
	if p.shelf.Has(i.Module) {
		return true, nil
	}
	search, stop := context.WithTimeout(ctx, interpreterSearch)
	defer stop()
	found, err := p.discovery.FindProviders(search, i.Module, 1)
	if ctx.Err() != nil {
		return false, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	if err != nil || len(found) == 0 {
		return false, nil // the consumer may have it
	}
	if err := p.fetchInterpreter(ctx, i); err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "interpreter not fetched", slog.String("interpreter", i.Name), slog.Any("error", err))
		return false, nil
	}
	return true, nil
}

func (p *Provider) fetchInterpreter(ctx context.Context, i resources.Interpreter) (err error) {
	f, err := p.public.Open(ctx, i.Module, i.Bytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.install(ctx, i, f)
}

// install puts an interpreter on the shelf and has it compiled.
func (p *Provider) install(ctx context.Context, i resources.Interpreter, r io.Reader) error {
	if err := p.shelf.Install(i, r); err != nil {
		return err
	}
	p.worker.Ahead(ctx, resources.FacetWasm, i.Module, p.shelved(i))
	return nil
}

func (p *Provider) shelved(i resources.Interpreter) source {
	return func(context.Context) (resources.Blob, error) { return p.shelf.Open(i.Module) }
}

// shareInterpreters serves the shelf's files to everybody, each once it is there.
func (p *Provider) shareInterpreters(ctx context.Context) error {
	for _, i := range resources.Interpreters() {
		if p.shared[i.Facet] || !p.shelf.Has(i.Module) {
			continue
		}
		if err := p.shareInterpreter(ctx, i); err != nil {
			return fmt.Errorf("%s: %w", i.Name, err)
		}
		p.shared[i.Facet] = true
	}
	return nil
}

func (p *Provider) shareInterpreter(ctx context.Context, i resources.Interpreter) (err error) {
	b, err := p.shelf.Open(i.Module)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if kept, err := content.OpenFrom(ctx, p.public.Public(), i.Module, i.Bytes); err == nil {
		err = kept.Close()
		if err != nil {
			return err
		}
	} else if _, _, err := p.public.AddPublic(ctx, b); err != nil {
		return err
	}
	return p.discovery.Provide(ctx, i.Module)
}
