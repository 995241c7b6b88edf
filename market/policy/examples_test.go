package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/market/policy"
)

const (
	friend   = "man1qyqszqgpqyqszqgpqyqszqgpqyqszqgp0m38k7"
	stranger = "man1qgpqyqszqgpqyqszqgpqyqszqgpqyqsz7lhzag"
)

// TestExamples asks each ready policy about situations on both sides of its
// rules.
func TestExamples(t *testing.T) {
	t.Parallel()
	const monday = "2026-01-05T"
	asked := map[string][]struct{ situation, want string }{
		"research-only": {
			{"request: {purpose: research, accepts: [attribution]}", "allow research"},
			{"request: {purpose: education, accepts: [attribution]}", "allow research"},
			{"request: {purpose: research}", "deny obligations"},
			{"request: {purpose: commerce, accepts: [attribution]}", "deny default"},
			{"request: {accepts: [attribution]}", "deny default"},
		},
		"pay-per-row": {
			{"request: {cap: 1MAN}", "allow default +no-bulk"},
			{"request: {cap: 9999uman}", "deny worth-it"},
			{"{phase: run, request: {cap: 1MAN}, run: {output_bytes: 4194304}}", "allow default"},
			{"{phase: run, request: {cap: 1MAN}, run: {output_bytes: 4194305}}", "deny no-bulk"},
			{"{phase: run, request: {cap: 1MAN}}", "deny no-bulk"},
		},
		"my-friends": {
			{"consumer: " + friend, "allow friends"},
			{"consumer: man1qgpqyqszqgpqyqszqgpqyqszqgpqyqsz7lhzag", "allow friends"},
			{"reputation: 1000000", "deny default"},
			{"{phase: run, consumer: " + friend + ", match: {friends: true}}", "allow friends"},
		},
		"office-hours": {
			{"chain: {time: '" + monday + "09:00:00Z'}", "allow default"},
			{"chain: {time: '" + monday + "16:59:59Z'}", "allow default"},
			{"chain: {time: '" + monday + "08:59:59Z'}", "deny closed"},
			{"chain: {time: '" + monday + "17:00:00Z'}", "deny closed"},
			{"chain: {time: '2026-01-09T12:00:00Z'}", "allow default"},
			{"chain: {time: '2026-01-10T12:00:00Z'}", "deny weekend"},
			{"chain: {time: '2026-01-11T12:00:00Z'}", "deny weekend"},
			{"{phase: run, chain: {time: '2026-01-11T12:00:00Z'}}", "deny weekend"},
			{"{phase: run, chain: {time: '2024-02-29T12:00:00Z'}}", "allow default"},
		},
		"one-run-a-day": {
			{"usage: {leases_1d: 0, leases_30d: 29}", "allow default +one-run"},
			{"usage: {leases_1d: 1}", "deny once-a-day"},
			{"{phase: run, run: {calls: 1}, match: {one-run: false}}", "allow default"},
			{"{phase: run, run: {calls: 2}, match: {one-run: false}}", "deny one-run"},
		},
		"eu-only": {
			{"{compute: {region: eu-west}, data: []}", "allow in-the-eu"},
			{"{compute: {region: eu-west}, data: [{region: eu-north}, {region: eu-south}]}", "allow in-the-eu"},
			{"{compute: {region: eu-west}, data: [{region: eu-north}, {region: us-east}]}", "deny default"},
			{"{compute: {region: us-west}, data: []}", "deny default"},
			{"{compute: {}, data: []}", "deny default"},
			{"data: []", "allow in-the-eu +in-the-eu"},
		},
		"no-training": {
			{"request: {purpose: research, accepts: [no_training, attribution, {delete_after: 720h}]}", "allow default"},
			{"request: {purpose: training, accepts: [no_training, attribution, {delete_after: 720h}]}", "deny not-for-training"},
			{"request: {accepts: [no_training, attribution, {delete_after: 721h}]}", "deny obligations"},
			{"request: {accepts: [attribution, {delete_after: 720h}]}", "deny obligations"},
		},
		"sealed-data": {
			{"{algorithm: {supplied: false}, request: {accepts: [attribution]}}", "allow known-code +no-egress"},
			{"{algorithm: {supplied: true}, request: {accepts: [attribution]}}", "deny default"},
			{"{algorithm: {supplied: true}, reputation: 10, request: {accepts: [attribution]}}", "allow known-code +no-egress"},
			{"{phase: run, algorithm: {}, run: {output_bytes: 1048576}, match: {known-code: true}}", "allow known-code"},
			{"{phase: run, algorithm: {}, run: {output_bytes: 1048577}, match: {known-code: true}}", "deny no-egress"},
			{"{phase: run, algorithm: {}, run: {egress_bytes: 1}, match: {known-code: true}}", "deny no-egress"},
		},
		"open-source": {
			{"algorithm: {attributes: {licence: MIT, author: me}}", "allow open"},
			{"algorithm: {attributes: {licence: Proprietary}}", "deny default"},
			{"algorithm: {supplied: true, attributes: {licence: MIT}}", "deny default"},
			{"algorithm: {}", "deny default"},
		},
		"first-hour-free": {
			{"{usage: {}, request: {wall: 1h}}", "allow newcomer +hour-is-over"},
			{"{usage: {}, request: {wall: 61m}}", "deny default"},
			{"{usage: {leases_30d: 1}, request: {wall: 1m}}", "deny default"},
			{"{phase: run, run: {wall_ms: 3599999}, match: {newcomer: true, hour-is-over: false}}", "allow newcomer"},
			{"{phase: run, run: {wall_ms: 3600000}, match: {newcomer: true, hour-is-over: false}}", "deny hour-is-over"},
		},
	}
	files, err := filepath.Glob("../../examples/policies/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(asked))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			p, err := policy.ParseYAML(text)
			require.NoError(t, err)
			g, err := p.Compile()
			require.NoError(t, err)
			require.Less(t, g.Cost(), uint64(policy.MaxCost/4))
			cases := asked[strings.TrimSuffix(filepath.Base(file), ".yaml")]
			require.NotEmpty(t, cases)
			for _, tc := range cases {
				s, err := policy.ParseSituation([]byte(tc.situation))
				require.NoError(t, err, tc.situation)
				c, err := s.Context(p)
				require.NoError(t, err, tc.situation)
				require.Equal(t, tc.want, say(g.Decide(c)), tc.situation)
				require.Len(t, g.Explain(c), len(p.Rules))
			}
		})
	}
}

// say writes an answer in a line: effect, rule, residual.
func say(a policy.Answer) string {
	return strings.Join(append([]string{string(a.Effect) + " " + a.Rule}, a.Residual...), " +")
}

func TestParseSituationRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, says string }{
		{"colour: red", "colour"},
		{"phase: later", "phase"},
		{"consumer: bob", "consumer"},
		{"chain: {time: noon}", "2026-01-05T10:00:00Z"},
		{"chain: {time: '2026-13-05T10:00:00Z'}", "2026-01-05T10:00:00Z"},
		{"chain: {time: '2026-01-05T10:00:00+01:00'}", "2026-01-05T10:00:00Z"},
		{"chain: {height: -1}", "whole number"},
		{"request: {cap: much}", "cap"},
		{"request: {wall: 60}", "60s"},
		{"request: {accepts: [no training]}", "no training"},
		{"data: [{resource: x}]", "data[0]"},
		{"compute: {peer: x}", "peer"},
		{"algorithm: {attributes: {a: '" + strings.Repeat("x", 300) + "'}}", "256"},
		{"a: &x 1", "anchor"},
		{"#" + strings.Repeat("x", policy.YAMLMaxBytes), "16384"},
	} {
		_, err := policy.ParseSituation([]byte(tc.text))
		require.ErrorContains(t, err, tc.says, tc.text)
		require.NotContains(t, err.Error(), "\n")
	}
}
