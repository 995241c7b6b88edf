module github.com/limboid/massive-man/resources/wasm/engines

go 1.26.0

require (
	github.com/bytecodealliance/wasmtime-go/v39 v39.0.1
	github.com/limboid/massive-man v0.0.0
	github.com/mattn/go-sqlite3 v1.14.32
	github.com/stretchr/testify v1.12.1
	github.com/tetratelabs/wazero v1.12.0
)

require (
	github.com/fxamacker/cbor/v2 v2.9.6 // indirect
	github.com/paralin/go-quickjs-wasi v0.11.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/limboid/massive-man => ../../..
