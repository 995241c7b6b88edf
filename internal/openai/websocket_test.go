package openai_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// TestWebsocketByTheByte: a websocket between a client and a server that others wrote
// goes through the consumer's loopback address to the provider's server, whose key the
// client does not have, and is billed by the byte.
func TestWebsocketByTheByte(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }() // it may have broken
		for {
			kind, said, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, append([]byte("heard "), said...)) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	keyFile := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	listing, err := provider.ReadListing("../../examples/lm/listing.yaml")
	require.NoError(t, err)
	listing.Endpoint.Upstream, listing.Endpoint.SecretFile = server.URL, keyFile
	listing.Endpoint.API, listing.Endpoint.Websockets, listing.Endpoint.Allow = "http", true, []string{"GET /talk"}
	listing.Price.Units = []price.UnitPrice{{Unit: resources.UnitInBytes, Per: 1, UMan: 2}, {Unit: resources.UnitOutBytes, Per: 1, UMan: 3}}

	net := testnet.New(t, 1)
	ctx := t.Context()
	lent, err := net.Validators[0].Provider.Publish(ctx, listing)
	require.NoError(t, err)
	consumer := net.Consumer(t)
	wanted := sdk.DefaultWanted()
	wanted.Endpoint = lent.Resource
	lease, err := consumer.Lease(ctx, wanted)
	require.NoError(t, err)
	calls, err := consumer.Calls(lease, 1)
	require.NoError(t, err)
	bill := &sums{}
	at := open(t, calls, bill)

	conn, answer, err := websocket.DefaultDialer.DialContext(ctx, "ws"+at[len("http"):]+"/talk", http.Header{"Authorization": {"Bearer " + token}})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	require.NoError(t, answer.Body.Close())
	for _, said := range []string{"one", "two", string(make([]byte, 100_000))} {
		require.NoError(t, conn.WriteMessage(websocket.BinaryMessage, []byte(said)))
		kind, heard, err := conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, websocket.BinaryMessage, kind)
		require.Equal(t, "heard "+said, string(heard))
	}
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return bill.usage().CallCount == 1 }, time.Minute, 10*time.Millisecond, "the call has ended")
	require.NoError(t, calls.Close(ctx))

	used := bill.usage()
	require.Greater(t, used.InBytes, uint64(100_000))
	require.Greater(t, used.OutBytes, uint64(100_000))
	gross, err := listing.Price.Of(used)
	require.NoError(t, err)
	require.Equal(t, gross, bill.total())
	_, err = consumer.CloseLease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	ended, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	require.Equal(t, bill.total(), ended.Paid)
	require.Equal(t, wanted.Cap, ended.Paid+ended.Refunded)
}
