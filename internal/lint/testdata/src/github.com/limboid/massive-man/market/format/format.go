package format

import (
	"errors"
	"fmt"
	"io"
)

type plain struct {
	id  [20]byte
	sum uint64
}

type deep struct{ next *deep }

type named struct{ next *named }

func (*named) String() string { return "named" }

type coded struct{}

func (*coded) Error() string { return "coded" }

func refused(w io.Writer, m map[string]int, p *plain, d deep, f func()) error {
	_ = fmt.Sprintf("%v", m)                             // want `a map formatted in the state machine`
	_ = fmt.Sprint(p)                                    // want `a pointer formatted in the state machine`
	_ = fmt.Sprintf("%p", p)                             // want `%p in the state machine`
	_ = fmt.Sprintf("%d %+v", 1, d)                      // want `a pointer formatted in the state machine`
	_ = fmt.Sprintln([]*plain{p})                        // want `a pointer formatted in the state machine`
	fmt.Fprintf(w, "%v", f)                              // want `a function formatted in the state machine`
	_ = fmt.Appendf(nil, "%*d %v", 3, 4, m)              // want `a map formatted in the state machine`
	return fmt.Errorf("%w: %v", io.EOF, []map[int]int{}) // want `a map formatted in the state machine`
}

func allowed(p *plain, n *named, err error, any any) error {
	_ = fmt.Sprintf("%T of 100%% %x", p, p.id)
	_ = fmt.Sprintf("%v %+v %s", *p, n, []byte("x"))
	_ = fmt.Sprint(any, err)
	return errors.Join(fmt.Errorf("%w: %d", &coded{}, p.sum), err)
}
