package mman

import (
	"errors"
	"fmt"
)

// Codespace is the namespace of Code in transaction results, as wallets show it.
const Codespace = "mman"

// Code is an error's number on every wire: transaction results, session
// frames, JSON. Numbers are append-only and never reused.
type Code uint32

// Retry says what a caller may do about an error.
type Retry uint8

// The three answers to "again?".
const (
	RetryNever     Retry = iota // the same call fails again everywhere
	RetryHere                   // the same call may succeed here later
	RetryElsewhere              // another peer may answer it
)

// Error is a coded sentinel. Wrap it with %w and say which value was wrong and
// what to do; compare with errors.Is.
type Error struct {
	Code  Code
	Retry Retry
	Text  string
}

// Error returns the sentinel's short sentence.
func (e *Error) Error() string { return e.Text }

// Is reports whether target is a sentinel with the same code, so that an error
// rebuilt from the wire equals the one that was sent.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error) // one level: errors.Is unwraps
	return ok && other.Code == e.Code
}

// General errors.
var (
	ErrInternal    = &Error{1, RetryHere, "internal error"}
	ErrInvalid     = &Error{2, RetryNever, "invalid"}
	ErrTooLarge    = &Error{3, RetryNever, "too large"}
	ErrNotFound    = &Error{4, RetryElsewhere, "not found"}
	ErrDenied      = &Error{5, RetryNever, "not allowed"}
	ErrExists      = &Error{6, RetryNever, "already exists"}
	ErrUnsupported = &Error{7, RetryNever, "not supported"}
	ErrOverflow    = &Error{8, RetryNever, "out of range"}
	ErrUnreachable = &Error{9, RetryElsewhere, "not reachable"}
	ErrTimeout     = &Error{10, RetryElsewhere, "timed out"}
	ErrCanceled    = &Error{11, RetryHere, "canceled"}
	ErrDiskFull    = &Error{12, RetryElsewhere, "disk full"}
	ErrBusy        = &Error{13, RetryHere, "busy"}
)

// Errors of transactions.
var (
	ErrTxDecode     = &Error{100, RetryNever, "transaction does not decode"}
	ErrWrongChain   = &Error{101, RetryNever, "signed for another chain"}
	ErrBadSignature = &Error{102, RetryNever, "signature does not verify"}
	ErrSequence     = &Error{103, RetryHere, "wrong sequence"}
	ErrFeeTooLow    = &Error{104, RetryHere, "fee too low"}
	ErrFunds        = &Error{105, RetryHere, "not enough funds"}
	ErrOutOfGas     = &Error{106, RetryNever, "out of gas"}
	ErrTxExpired    = &Error{107, RetryNever, "timeout height has passed"}
	ErrUnknownMsg   = &Error{108, RetryNever, "unknown message type"}
	ErrBeacon       = &Error{109, RetryNever, "beacon does not verify"}
)

// Errors of the market.
var (
	ErrPolicy       = &Error{200, RetryElsewhere, "denied by the policy"}
	ErrCapacity     = &Error{201, RetryHere, "no free capacity"}
	ErrPrice        = &Error{202, RetryElsewhere, "price above the cap"}
	ErrOfferGone    = &Error{203, RetryElsewhere, "offer expired or withdrawn"}
	ErrLeaseState   = &Error{204, RetryNever, "lease is not in the state for this"}
	ErrReceipt      = &Error{205, RetryNever, "receipt does not verify"}
	ErrCapExceeded  = &Error{206, RetryNever, "above the lease's cap"}
	ErrQueueFull    = &Error{207, RetryHere, "too many queued requests"}
	ErrDeadline     = &Error{208, RetryNever, "deadline has passed"}
	ErrResourceGone = &Error{209, RetryElsewhere, "no offer for this resource"}
	ErrBid          = &Error{210, RetryNever, "bid does not fit its commitment"}
	ErrNoBid        = &Error{211, RetryElsewhere, "no bid"}
)

// Errors of running resources.
var (
	ErrModule      = &Error{300, RetryNever, "not a runnable module"}
	ErrImport      = &Error{301, RetryNever, "module imports what it may not"}
	ErrWall        = &Error{302, RetryNever, "wall time limit reached"}
	ErrMemory      = &Error{303, RetryNever, "memory limit reached"}
	ErrOutput      = &Error{304, RetryNever, "output limit reached"}
	ErrGuestExit   = &Error{305, RetryNever, "algorithm ended with an error"}
	ErrContent     = &Error{306, RetryElsewhere, "content does not match its CID"}
	ErrGuestTrap   = &Error{307, RetryNever, "algorithm trapped"}
	ErrInputLimit  = &Error{308, RetryNever, "input limit reached"}
	ErrNotPublic   = &Error{309, RetryNever, "content is private"}
	ErrRunConflict = &Error{310, RetryHere, "another run holds the lease"}
	ErrFuel        = &Error{311, RetryNever, "fuel limit reached"}
	ErrIdle        = &Error{312, RetryHere, "waited too long for input"}
	ErrStopped     = &Error{313, RetryElsewhere, "ended by its provider"}
	ErrEnvironment = &Error{314, RetryNever, "environment's protocol broken"}
)

// Errors of sessions.
var (
	ErrProtocol     = &Error{400, RetryNever, "protocol violation"}
	ErrLeaseUnknown = &Error{401, RetryHere, "lease not known here yet"}
	ErrNotYourLease = &Error{402, RetryNever, "lease belongs to others"}
	ErrUnpaid       = &Error{403, RetryHere, "waiting for a receipt"}
	ErrPeerVanished = &Error{404, RetryHere, "peer vanished"}
	ErrUnproved     = &Error{405, RetryNever, "cannot be proved"}
	ErrProof        = &Error{406, RetryElsewhere, "proof does not verify"}
)

// Errors of one node's home.
var (
	ErrHome        = &Error{500, RetryNever, "home cannot be used"}
	ErrPortInUse   = &Error{501, RetryHere, "port in use"}
	ErrKeyfile     = &Error{502, RetryNever, "key file cannot be opened"}
	ErrCorrupt     = &Error{503, RetryNever, "stored data is damaged"}
	ErrInvariant   = &Error{504, RetryNever, "ledger invariant broken"}
	ErrGenesis     = &Error{505, RetryNever, "genesis is not valid"}
	ErrOtherHolder = &Error{506, RetryHere, "another process holds it"}
	ErrUpgrade     = &Error{507, RetryNever, "another version of the program is needed"}
)

// CodeOf returns the code of the first sentinel in err's chain, 0 for nil and
// ErrInternal's for an error that has none.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ErrInternal.Code
}

// RetryOf returns the retry meaning of the first sentinel in err's chain.
func RetryOf(err error) Retry {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Retry
	}
	return RetryNever
}

// RemoteError rebuilds an error that a peer or the chain sent as a code, a
// retry meaning and a sentence. errors.Is finds the local sentinel by code.
func RemoteError(code Code, retry Retry, text string) error {
	return fmt.Errorf("%w", &Error{code, retry, text})
}
