package stats_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples/stats"
)

func TestSummarize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		csv     string
		options stats.Options
		want    string
		err     string
	}{
		"no group": {
			csv: "x\n1\n2\n", want: `{"rows":2,"group_by":"","groups":[{"name":"all","rows":2,"columns":[{"name":"x","count":2,"mean":1.5,"min":1,"max":2}]}]}`,
		},
		"negative mean, half away from zero": {
			csv: "x\n-0.000001\n-0.000002\n", want: `{"rows":2,"group_by":"","groups":[{"name":"all","rows":2,"columns":[{"name":"x","count":2,"mean":-0.000002,"min":-0.000002,"max":-0.000001}]}]}`,
		},
		"extremes": {
			csv: "x\n999999999999.999999\n-999999999999.999999\n999999999999.999999\n",
			want: `{"rows":3,"group_by":"","groups":[{"name":"all","rows":3,"columns":[{"name":"x","count":3,` +
				`"mean":333333333333.333333,"min":-999999999999.999999,"max":999999999999.999999}]}]}`,
		},
		"a group without a value": {
			csv: "g,x\na,NA\nb,1\n", want: `{"rows":2,"group_by":"g","groups":[{"name":"a","rows":1,"columns":[{"name":"x","count":0}]},{"name":"b","rows":1,"columns":[{"name":"x","count":1,"mean":1,"min":1,"max":1}]}]}`,
		},
		"chosen group and column": {
			csv: "g,h,x,y\na,1,1,9\na,2,3,9\n", options: stats.Options{GroupBy: "h", Column: "x"},
			want: `{"rows":2,"group_by":"h","groups":[{"name":"1","rows":1,"columns":[{"name":"x","count":1,"mean":1,"min":1,"max":1}]},{"name":"2","rows":1,"columns":[{"name":"x","count":1,"mean":3,"min":3,"max":3}]}]}`,
		},
		"quotes, byte order mark, CRLF, no rows": {
			csv: "\ufeff\"a\"\"b\",\"c\nd\"\r\n", want: `{"rows":0,"group_by":"a\"b","groups":[]}`,
		},
		"empty":           {csv: "", err: "empty"},
		"ragged":          {csv: "a,b\n1,2\n3\n", err: "line 3: 1 fields, the header has 2"},
		"open quote":      {csv: "a\n\"b\n", err: "line 2: a quote is not closed"},
		"text behind":     {csv: "\"a\"b\n", err: "line 1: a quoted field is followed by"},
		"unknown column":  {csv: "a\n1\n", options: stats.Options{Column: "z"}, err: `no numeric column "z"`},
		"unknown group":   {csv: "a\n1\n", options: stats.Options{GroupBy: "z"}, err: `no column "z"`},
		"text column":     {csv: "a\nx\n", options: stats.Options{Column: "a"}, err: `no numeric column "a"`},
		"too long number": {csv: "a\n1.0000001\n", options: stats.Options{Column: "a"}, err: "no numeric column"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := stats.Summarize([]byte(c.csv), c.options)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want+"\n", string(got))
		})
	}
}

func TestSampleDrawsAsManyRows(t *testing.T) {
	t.Parallel()
	csv := []byte("x\n1\n2\n3\n4\n5\n6\n7\n8\n")
	seen := map[string]bool{}
	for seed := range uint64(8) {
		got, err := stats.Summarize(csv, stats.Options{Sample: true, Seed: seed})
		require.NoError(t, err)
		again, err := stats.Summarize(csv, stats.Options{Sample: true, Seed: seed})
		require.NoError(t, err)
		require.Equal(t, got, again)
		var summary struct {
			Seed   uint64 `json:"seed"`
			Groups []struct {
				Rows int `json:"rows"`
			} `json:"groups"`
		}
		require.NoError(t, json.Unmarshal(got, &summary))
		require.Equal(t, seed, summary.Seed)
		require.Equal(t, 8, summary.Groups[0].Rows)
		seen[string(got)] = true
	}
	require.Len(t, seen, 8)
}

func TestParseArgs(t *testing.T) {
	t.Parallel()
	o, err := stats.ParseArgs([]string{"--seed", "18446744073709551615", "--column", "x", "/data/1", "--group", "g"})
	require.NoError(t, err)
	require.Equal(t, stats.Options{Path: "/data/1", Column: "x", GroupBy: "g", Sample: true, Seed: 1<<64 - 1}, o)
	for _, args := range [][]string{{"a", "b"}, {"--seed"}, {"--seed", "-1"}, {"--what", "1"}} {
		_, err := stats.ParseArgs(args)
		require.Error(t, err)
	}
}

func FuzzSummarize(f *testing.F) {
	f.Add([]byte("g,x\na,1.5\nb,-2\n"), uint64(1))
	f.Add([]byte("\"a\"\"\",b\r\n\"\n\",2"), uint64(0))
	f.Fuzz(func(t *testing.T, csv []byte, seed uint64) {
		got, err := stats.Summarize(csv, stats.Options{Sample: seed > 0, Seed: seed})
		if err == nil {
			require.True(t, json.Valid(got), "%q", got)
		}
	})
}
