// Package call says how a call to an endpoint travels and what it costs in tokens.
//
// A call is one interactive run: its input is the head of a request and then the
// body, its output the head of the answer and then that body. Because each call
// has a run of its own, no byte of a body can be taken for another request. The
// package also counts the tokens of an OpenAI-compatible call from the bytes that
// both sides see, so that provider and payer come to the same number.
//
// It is pure and knows no network: resources/endpoint speaks it at the provider,
// sdk/gateway at the consumer.
package call
