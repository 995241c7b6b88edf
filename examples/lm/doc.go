// Package lm is a very small language model with the API of OpenAI: trigrams over a
// text, with a tokenizer of its own. It is a real server that other people's clients
// accept, for trying out endpoints without a model of gigabytes.
package lm
