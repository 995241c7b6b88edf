// Package openai is a test of an unmodified OpenAI client library and curl against a
// language model that a provider lends as an endpoint.
package openai
