package minimum_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples/minimum"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in, want string
		args     []string
		fails    string
	}{
		"csv":                     {in: "kind,count\na,10\nb,9\nc,11\n", want: "kind,count\na,10\nc,11\n"},
		"csv, another column":     {in: "count,m\n1,5\n2,4\n", want: "count,m\n1,5\n", args: []string{"--count", "m", "--minimum", "5"}},
		"csv, no number":          {in: "kind,count\na,many\nb,-3\nc,1e9\nd,99999999999999999999\n", want: "kind,count\n"},
		"csv, without a column":   {in: "kind,n,max\na,10,7\n", want: "kind,n\na,10\n", args: []string{"--drop", "max"}},
		"csv that counts nothing": {in: "kind,size\na,10\n", fails: "--count"},
		"csv of unequal rows":     {in: "kind,count\na\n", fails: "wrong number of fields"},
		"json":                    {in: `{"rows":20,"group_by":"x","groups":[{"name":"a","rows":10},{"name":"b","rows":9}]}`, want: `{"groups":[{"name":"a","rows":10}]}` + "\n"},
		"json, an array":          {in: `[{"count":12},{"count":1},3,"x",[1],null]`, want: `[{"count":12}]` + "\n"},
		"json, groups in groups":  {in: `[{"count":12,"by":[{"count":3,"v":1},{"count":10,"v":2}]}]`, want: `[{"by":[{"count":10,"v":2}],"count":12}]` + "\n"},
		"json, bare values":       {in: `[{"count":12,"mean":1.5,"ids":[1,2,3],"one":{"name":"x"}}]`, want: `[{"count":12,"ids":[],"mean":1.5}]` + "\n"},
		"json, odd counts":        {in: `[{"count":"12"},{"count":12.5},{"count":-12},{"count":null},{}]`, want: "[]\n"},
		"json, two documents":     {in: `[] []`, fails: "more than one"},
		"json, broken":            {in: `[{"count":12}`, fails: "EOF"},
		"nothing":                 {in: " \n"},
		"bad option":              {args: []string{"--most", "1"}, fails: "--most"},
		"no value":                {args: []string{"--minimum"}, fails: "missing"},
		"minimum of nothing":      {args: []string{"--minimum", "0"}, fails: "from 1 on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := minimum.ParseArgs(tc.args)
			var got []byte
			if err == nil {
				got, err = minimum.Filter([]byte(tc.in), o)
			}
			if tc.fails != "" {
				require.ErrorContains(t, err, tc.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	doc := `1`
	for range 40 {
		doc = `[{"count":99,"x":` + doc + `}]`
	}
	_, err := minimum.Filter([]byte(doc), minimum.Options{Minimum: 1})
	require.ErrorContains(t, err, "nests deeper")
}

// FuzzFilter: no group that says less than the minimum is in what leaves.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"groups":[{"rows":9},{"rows":10}]}`))
	f.Add([]byte("a,count\nx,9\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		o := minimum.Options{Minimum: 10}
		out, err := minimum.Filter(in, o)
		if err != nil || len(out) == 0 {
			return
		}
		again, err := minimum.Filter(out, o)
		require.NoError(t, err)
		require.Equal(t, string(out), string(again))
	})
}
