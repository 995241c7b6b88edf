// Package dataset reads files of rows that somebody else wrote: it recognises CSV,
// JSON lines and Parquet, says which columns and how many rows there are, and copies
// a range of rows or some columns.
//
// Of Parquet it reads the footer only, and copies the columns' bytes as they are into
// a new file with a footer of its own: it never decompresses or decodes a page, so
// that a hostile file cannot make it grow. A range of a Parquet file's rows is
// therefore rounded to whole row groups.
//
// Node calls it for what it lends, the client for what it reads. Invariants: memory
// is bounded by maxRow and maxFooter, whatever the file says of itself; a reader is
// asked for nothing that the answer does not need.
package dataset
