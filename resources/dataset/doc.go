// Package dataset reads files of rows that somebody else wrote: it recognises CSV,
// JSON lines and Parquet, says which columns and how many rows there are, and reads
// a range of rows or some columns.
//
// Of Parquet it reads the footer and the pages that hold the wanted rows, and writes
// the rows as JSON lines; or it copies the columns' bytes as they are into a new file
// with a footer of its own, and then never unpacks a page, but comes with whole row
// groups.
//
// Node calls it for what it lends, the client for what it reads. Invariants: memory
// is bounded by maxRow, maxFooter and maxHeld, whatever the file says of itself; values
// are decoded one by one, so that a page that claims many costs nothing before they are
// written; a reader is asked for nothing that the answer does not need, but the rest of
// a page.
package dataset
