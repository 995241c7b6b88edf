// Package meter builds the measuring of fuel into WebAssembly modules.
package meter
