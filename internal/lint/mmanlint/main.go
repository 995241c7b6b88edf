// Mmanlint runs the determinism analyzer under go vet:
//
//	go build -o bin/mmanlint ./internal/lint/mmanlint
//	go vet -vettool=bin/mmanlint ./...
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/limboid/massive-man/internal/lint"
)

func main() { unitchecker.Main(lint.Analyzer) }
