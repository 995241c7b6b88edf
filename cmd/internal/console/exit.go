package console

import (
	"errors"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Exit codes of both programs.
const (
	Done    = 0 // it is done
	Failed  = 1 // it was tried and failed, or was canceled
	Usage   = 2 // what was typed, or stands in the config file, is wrong
	Refused = 3 // a policy refuses it, or it is not affordable
	Missing = 4 // not found, or not reachable now
)

// usageError marks what the user typed wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() []error { return []error{e.err, mman.ErrInvalid} }

// Wrong returns an error that ends the program with the exit code Usage. The
// sentence says which value is wrong and what to type instead.
func Wrong(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// Ended returns an error that ends the program with another program's exit code, 1
// to 255.
func Ended(code uint32, err error) error { return &exitError{int(min(code, 255)), err} }

// Exit returns the exit code that an error means: its first sentinel decides,
// deeper ones only say why.
func Exit(err error) int {
	if err == nil {
		return Done
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return Usage
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	switch mman.CodeOf(err) {
	case mman.ErrPolicy.Code, mman.ErrDenied.Code, mman.ErrNotYourLease.Code, mman.ErrNotPublic.Code,
		mman.ErrFunds.Code, mman.ErrFeeTooLow.Code, mman.ErrPrice.Code, mman.ErrCapExceeded.Code:
		return Refused
	case mman.ErrNotFound.Code, mman.ErrResourceGone.Code, mman.ErrOfferGone.Code, mman.ErrCapacity.Code, mman.ErrNoBid.Code,
		mman.ErrLeaseUnknown.Code, mman.ErrUnreachable.Code, mman.ErrTimeout.Code, mman.ErrPeerVanished.Code:
		return Missing
	default:
		return Failed
	}
}
