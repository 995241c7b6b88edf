package meter_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// 10: operators on long ranges do in pieces what they do at once: the same bytes,
// overlapping or not, and the same traps, before anything is written.
func TestPitfall10RangesInPieces(t *testing.T) {
	t.Parallel()
	const pages, page = 8, 65536
	b := (&builder{}).mem(pages, pages)
	b.dataNote = true
	long := make([]byte, 3*page+17)
	for i := range long {
		long[i] = byte(i*7 + i>>8)
	}
	b.datas = [][]byte{cat([]byte{1}, blob(long)), cat([]byte{1}, blob([]byte("short")))}
	init := func(code ...[]byte) []byte { return cat(c32(0), c32(0), c32(3*page+17), misc(8, 0, 0), cat(code...)) }
	three := []byte{i32, i32, i32}
	args := cat(get(0), get(1), get(2))
	b.fn("fill", three, nil, nil, init(args, misc(11, 0)))
	b.fn("copy", three, nil, nil, init(args, misc(10, 0, 0)))
	b.fn("init", three, nil, nil, args, misc(8, 0, 0))
	b.fn("short", three, nil, nil, args, misc(8, 1, 0))
	b.fn("dropped", three, nil, nil, misc(9, 0), args, misc(8, 0, 0))
	b.fn("looped", three, nil, []byte{i32}, init(times(3, 2, args, misc(10, 0, 0))))
	plain := b.bytes()
	metered, whole := instrument(t, plain), instrument(t, plain, meter.Switches{NoPieces: true})
	e, slow := compiler(t), interpreter(t)
	const all = pages * page
	for _, name := range []string{"fill", "copy", "init", "short", "dropped", "looped"} {
		for _, a := range [][3]uint64{
			{0, 0, 0},
			{5, 1, 3},
			{100, 7, page},
			{100, 7, page + 1},
			{0, 7, 3 * page},
			{7, 0, 3 * page},
			{page, 0, 3*page + 17},
			{0, page, 2*page + 3},
			{1, 0, 2 * page},
			{0, 1, 2 * page},
			{page + 1, 1, 2 * page},
			{all, 0, 0},
			{all + 1, 0, 0},
			{0, all + 1, 0},
			{all - 3*page, 9, 3 * page},
			{all - 3*page + 1, 9, 3 * page},
			{9, all - 3*page, 3 * page},
			{9, all - 3*page + 1, 3 * page},
			{0, 0, 1<<32 - 1},
			{1<<32 - 1, 0, 1<<32 - 1},
			{0, 1<<32 - 1, 1<<32 - 1},
			{1<<32 - page, 0, 2 * page},
			{0, 20, 3*page + 17},
			{0, 0, 3*page + 18},
			{3, 3, 2*page + 1},
		} {
			where := fmt.Sprintf("%s %v", name, a)
			want := e.invoke(t, plain, noLimit, name, a[0], a[1], a[2])
			got := e.invoke(t, metered, noLimit, name, a[0], a[1], a[2])
			same(t, want, got, "%s", where)
			require.Equal(t, got, slow.invoke(t, metered, noLimit, name, a[0], a[1], a[2]), where)
			if got.trap == "" {
				require.Equal(t, e.invoke(t, whole, noLimit, name, a[0], a[1], a[2]).used, got.used, where)
			}
		}
	}
	require.Greater(t, len(metered), len(whole))
}

func TestPitfall10TablesInPieces(t *testing.T) {
	t.Parallel()
	const size, segment = 40_000, 20_000
	b := (&builder{}).mem(1, 1)
	b.table(fref, size, size)
	b.table(fref, 100, size)
	b.table(xref, size, size+10)
	f := b.fn("f", nil, []byte{i32}, nil, c32(1))
	g := b.fn("g", nil, []byte{i32}, nil, c32(2))
	items := make([]uint32, segment)
	for i := range items {
		items[i] = f + uint32(i)%2
	}
	b.elem(0, items...)
	b.elems[0] = cat([]byte{1, 0}, b.elems[0][len(cat([]byte{0}, c32(0), []byte{0x0b})):]) // passive
	b.elem(size-2, f, g)
	three := []byte{i32, i32, i32}
	args := cat(get(0), get(1), get(2))
	tab := func(op byte, i uint32) []byte { return cat([]byte{op}, u(i)) }
	// A checksum of table 0: its entries that are not null.
	sum := cat(c32(0), set(3), times(4, size, get(3), c32(31), ops(0x6c), get(4), c32(1), ops(0x6b), tab(0x25, 0), ops(0xd1), add32(), set(3)), get(3))
	locals := []byte{i32, i32}
	b.fn("init", three, []byte{i32}, locals, args, misc(12, 0, 0), sum)
	b.fn("copy", three, []byte{i32}, locals, c32(100), c32(3), c32(segment-3), misc(12, 0, 0), args, misc(14, 0, 0), sum)
	b.fn("copy from another", three, []byte{i32}, locals, args, misc(14, 0, 1), sum)
	b.fn("fill", three, []byte{i32}, locals, get(0), get(1), iff(), cat(ops(0xd2), u(g)), get(2), misc(17, 0), sum)
	b.fn("fill others", three, []byte{i32}, nil, get(0), ops(0xd0, xref), get(2), misc(17, 2), misc(16, 2))
	b.fn("grow", three, []byte{i32}, nil, ops(0xd0, fref), get(2), misc(15, 1), misc(16, 1), add32())
	plain := b.bytes()
	metered, naive := instrument(t, plain), instrument(t, plain, meter.Switches{Naive: true})
	e := compiler(t)
	for _, name := range []string{"init", "copy", "copy from another", "fill", "fill others", "grow"} {
		for _, a := range [][3]uint64{
			{0, 0, 0},
			{0, 0, 8192},
			{1, 0, 8193},
			{0, 1, 19_999},
			{0, 1, 20_000},
			{20_000, 0, 20_000},
			{20_001, 0, 20_000},
			{0, 0, size},
			{0, 0, size + 1},
			{0, 5, 17_000},
			{5, 0, 17_000},
			{0, 0, 1<<32 - 1},
			{1<<32 - 1, 1, 30_000},
		} {
			want := e.invoke(t, plain, noLimit, name, a[0], a[1], a[2])
			got := e.invoke(t, metered, noLimit, name, a[0], a[1], a[2])
			same(t, want, got, "%s %v", name, a)
			if got.trap == "" {
				require.Equal(t, e.invoke(t, naive, noLimit, name, a[0], a[1], a[2]).used, got.used, "%s %v", name, a)
			}
		}
	}
	grown := e.invoke(t, metered, noLimit, "grow", 0, 0, 1000)
	require.Equal(t, uint64(1+5+16), grown.used)
	require.Equal(t, uint64(1+5), e.invoke(t, metered, noLimit, "grow", 0, 0, size).used, "not tried")
}
