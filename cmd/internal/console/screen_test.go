package console_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/cmd/internal/console"
)

// TestScreen cuts what a program says at every place: the same comes through.
func TestScreen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		said, shown string
		plain       bool
	}{
		"text":                  {said: "ä 漢\r\n\ta\bb\a", shown: "ä 漢\r\n\ta\bb\a"},
		"colour":                {said: "\x1b[1;31mred\x1b[0m", shown: "\x1b[1;31mred\x1b[0m"},
		"colour, plain":         {said: "\x1b[1;31mred\x1b[0m", shown: "red", plain: true},
		"the cursor":            {said: "\x1b[2J\x1b[3;4Hx\x1b[K\x1b7\x1b8\x1bM", shown: "\x1b[2J\x1b[3;4Hx\x1b[K\x1b7\x1b8\x1bM"},
		"bracketed paste":       {said: "\x1b[?2004ha", shown: "\x1b[?2004ha"},
		"where is the cursor":   {said: "a\x1b[6nb", shown: "a\x1b[6nb"},
		"how are you":           {said: "a\x1b[5nb\x1b[?6nc\x1b[?15nd\x1b[6;6ne", shown: "abcde"},
		"who are you":           {said: "a\x1b[c\x1b[>c\x1bZb", shown: "ab"},
		"the mouse":             {said: "a\x1b[?1000hb", shown: "ab"},
		"the title":             {said: "a\x1b]0;evil\ab\x1b]2;evil\x1b\\c", shown: "abc"},
		"the clipboard":         {said: "a\x1b]52;c;ZXZpbA==\ab", shown: "ab"},
		"a device's string":     {said: "a\x1bP$q\"p\x1b\\b\x1b_x\x1b\\c", shown: "abc"},
		"a string is cut short": {said: "a\x1b]0;evil\x1b[31mred", shown: "a\x1b[31mred"},
		"a string without end":  {said: "a\x1b]0;evil and more", shown: "a"},
		"it is canceled":        {said: "a\x1b[3\x18b", shown: "ab"},
		"the second set":        {said: "a\u009b31mb", shown: "a\xc2?31mb"},
		"a printer":             {said: "a\x1b[5ib\x1b[4i", shown: "ab"},
		"window operations":     {said: "a\x1b[21tb", shown: "ab"},
		"reset":                 {said: "a\x1bcb", shown: "ab"},
		"other characters":      {said: "a\x1b(0b", shown: "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for cut := range len(tc.said) {
				var b bytes.Buffer
				s := console.NewScreen(&b, tc.plain)
				for _, part := range []string{tc.said[:cut], tc.said[cut:]} {
					n, err := s.Write([]byte(part))
					require.NoError(t, err)
					require.Equal(t, len(part), n)
				}
				require.Equal(t, tc.shown, b.String(), "cut at %d", cut)
			}
		})
	}
	var b bytes.Buffer
	s := console.NewScreen(&b, false)
	_, err := s.Write([]byte("\x1b[?25l\x1b[?1049h\x1b[?2004h\x1b[?2004l"))
	require.NoError(t, err)
	b.Reset()
	require.NoError(t, s.Close())
	require.Equal(t, "\x1b[?1049l\x1b[?25h\x1b[0m", b.String(), "what was left set is undone")
}
