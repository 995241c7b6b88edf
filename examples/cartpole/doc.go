// Package cartpole is an environment: a pole on a cart that must not fall, after
// Barto, Sutton and Anderson, "Neuronlike Adaptive Elements That Can Solve Difficult
// Learning Control Problems" (1983), with the constants, the spaces, the episodes of
// 500 steps and the seeds of Gymnasium's CartPole-v1: the same seed begins with the
// same numbers there and here.
//
// cmd is its WASI command, cartpole.wasm the built module. It speaks the frames of
// docs/environments.md by itself, as any environment does.
package cartpole

//go:generate env GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false "-ldflags=-s -w -buildid=" -o cartpole.wasm ./cmd
