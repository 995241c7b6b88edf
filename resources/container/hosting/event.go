package hosting

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
)

// State is what an Event says.
type State string

// The states.
const (
	Running   State = "running"   // the program was begun
	Healthy   State = "healthy"   // it answers
	Unhealthy State = "unhealthy" // it does not, or no more
	Exited    State = "exited"    // the program ended
	Restart   State = "restart"   // it will be begun again
	Notified  State = "notice"    // the provider will end the run
	Published State = "published" // others reach it at an address of the provider
	Stopped   State = "stopped"   // the run ends
)

// Event is one line about a hosted container.
type Event struct {
	State State `json:"state"`
	// Restarts counts how often the program was begun again.
	Restarts uint64 `json:"restarts,omitempty"`
	// ExitCode is of a program that ended.
	ExitCode uint32 `json:"exit_code,omitempty"`
	// Reason is a sentence, InMs how long it is until then.
	Reason string `json:"reason,omitempty"`
	InMs   uint64 `json:"in_ms,omitempty"`
	// Addr is where others reach it, host:port.
	Addr string `json:"addr,omitempty"`
}

// maxEvent bounds an event's line, maxReason its sentence.
const (
	maxEvent  = 4 << 10
	maxReason = 1 << 10
)

// Line returns the event as a line that ReadEvents takes: a reason that is too long is
// cut, one that grows when it is written, because of its control characters, more.
func (e Event) Line() []byte {
	for most := maxReason; ; most /= 2 {
		e.Reason = e.Reason[:min(len(e.Reason), most)]
		b, err := json.Marshal(e)
		if err != nil {
			return nil // strings and numbers always can be
		}
		if len(b) < maxEvent || most == 0 {
			return append(b, '\n')
		}
	}
}

// ReadEvents calls told for each event until r ends. A line that is none is
// mman.ErrProtocol.
func ReadEvents(r io.Reader, told func(Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxEvent), maxEvent)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%w: an event of a hosted container: %w", mman.ErrProtocol, err)
		}
		told(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: events of a hosted container: %w", mman.ErrProtocol, err)
	}
	return nil
}
