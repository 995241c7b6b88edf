package mman_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// TestErrorCodes reads errors.go: every code is there once, every sentinel has
// a text, and the numbers rise within each group, so that a new one is appended.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	names := map[uint64]string{}
	texts := map[string]string{}
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		last := uint64(0)
		for _, s := range group.Specs {
			spec, isValue := s.(*ast.ValueSpec)
			require.True(t, isValue)
			name := spec.Names[0].Name
			ref, isRef := spec.Values[0].(*ast.UnaryExpr)
			require.True(t, isRef, name)
			lit, isLit := ref.X.(*ast.CompositeLit)
			require.True(t, isLit, name)
			number, isNumber := lit.Elts[0].(*ast.BasicLit)
			require.True(t, isNumber, name)
			text, isText := lit.Elts[2].(*ast.BasicLit)
			require.True(t, isText, name)

			code, err := strconv.ParseUint(number.Value, 10, 32)
			require.NoError(t, err)
			require.Empty(t, names[code], "%s and %s share code %d", names[code], name, code)
			require.Empty(t, texts[text.Value], "%s and %s share a text", texts[text.Value], name)
			require.Greater(t, code, last, "%s: append at the end of its group", name)
			require.NotEqual(t, `""`, text.Value, name)
			names[code], texts[text.Value], last = name, name, code
		}
	}
	require.Greater(t, len(names), 40)
}

func TestErrorsOverTheWire(t *testing.T) {
	t.Parallel()
	local := fmt.Errorf("open lease 12ab: %w", fmt.Errorf("%w: 5MAN above 3MAN", mman.ErrPrice))
	remote := fmt.Errorf("peer says: %w", mman.RemoteError(mman.CodeOf(local), mman.RetryOf(local), local.Error()))
	require.ErrorIs(t, remote, mman.ErrPrice)
	require.NotErrorIs(t, remote, mman.ErrPolicy)
	require.Equal(t, mman.ErrPrice.Code, mman.CodeOf(remote))
	require.Equal(t, mman.RetryElsewhere, mman.RetryOf(remote))
	require.EqualError(t, remote, "peer says: open lease 12ab: price above the cap: 5MAN above 3MAN")
}

func TestErrorsFromTheFuture(t *testing.T) {
	t.Parallel()
	remote := mman.RemoteError(60_000, mman.RetryHere, "something new")
	require.Equal(t, mman.Code(60_000), mman.CodeOf(remote))
	require.Equal(t, mman.RetryHere, mman.RetryOf(remote))
	require.NotErrorIs(t, remote, mman.ErrInternal)
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	require.Zero(t, mman.CodeOf(nil))
	require.Equal(t, mman.ErrInternal.Code, mman.CodeOf(io.EOF))
	require.Equal(t, mman.RetryNever, mman.RetryOf(io.EOF))
	require.Equal(t, mman.ErrBusy.Code, mman.CodeOf(errors.Join(io.EOF, mman.ErrBusy)))
	require.NotErrorIs(t, mman.ErrInvalid, io.EOF)
	require.NotErrorIs(t, io.EOF, mman.ErrInvalid)
}
