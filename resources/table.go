package resources

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
)

// The formats of datasets that are recognised.
const (
	FormatCSV     = "csv"     // values with commas, semicolons or tabs between them, below a line of names
	FormatJSONL   = "jsonl"   // one JSON object in each line
	FormatParquet = "parquet" // Apache Parquet
)

// The types of columns.
const (
	ColumnBool   = "bool"
	ColumnInt    = "int"
	ColumnFloat  = "float"
	ColumnText   = "text"
	ColumnBytes  = "bytes"
	ColumnTime   = "time"
	ColumnNested = "nested" // a list, a map or an object
)

// Bounds of a table in a manifest.
const (
	TableMaxColumns = 128
	TableMaxSample  = 8
	// TableMaxLine is the longest line of a sample, in bytes.
	TableMaxLine = 512
)

// Table says what a dataset of rows holds, as its owner's node read it.
type Table struct {
	// Format is csv, jsonl or parquet.
	Format string `cbor:"format"  json:"format"`
	// Rows is how many there are, without a line of names.
	Rows uint64 `cbor:"rows"    json:"rows"`
	// Columns are the first TableMaxColumns, in their order.
	Columns []Column `cbor:"columns" json:"columns"`
	// Sample are the first rows, at most TableMaxSample, as lines of text that are
	// cut after TableMaxLine bytes; none of private data unless its listing says so.
	Sample []string `cbor:"sample,omitempty" json:"sample,omitempty"`
}

// Column is one column of a Table.
type Column struct {
	// Name is cut after 64 bytes.
	Name string `cbor:"name" json:"name"`
	// Type is bool, int, float, text, bytes, time or nested.
	Type string `cbor:"type" json:"type"`
}

// validate reports the first field out of its bounds.
func (t Table) validate() error {
	if !slices.Contains([]string{FormatCSV, FormatJSONL, FormatParquet}, t.Format) {
		return fmt.Errorf("%w: table.format %.32q: use csv, jsonl or parquet", mman.ErrUnsupported, t.Format)
	}
	if t.Rows > 1<<53-1 || len(t.Columns) > TableMaxColumns || len(t.Sample) > TableMaxSample {
		return fmt.Errorf("%w: table: %d rows, %d columns and a sample of %d, at most 2⁵³-1, %d and %d are allowed", mman.ErrTooLarge, t.Rows, len(t.Columns), len(t.Sample), TableMaxColumns, TableMaxSample)
	}
	for i, c := range t.Columns {
		if err := validText(fmt.Sprintf("table.columns[%d].name", i), c.Name, MaxName); err != nil {
			return err
		}
		if !slices.Contains([]string{ColumnBool, ColumnInt, ColumnFloat, ColumnText, ColumnBytes, ColumnTime, ColumnNested}, c.Type) {
			return fmt.Errorf("%w: table.columns[%d].type %.32q is not known", mman.ErrUnsupported, i, c.Type)
		}
	}
	for i, line := range t.Sample {
		if err := validText(fmt.Sprintf("table.sample[%d]", i), line, TableMaxLine); err != nil {
			return err
		}
	}
	return nil
}
