// Command programs is one WASI program of many kinds of real work, for tests that
// compare engines: its argument says which, and without one it names them all. What
// it writes depends on nothing but the argument and standard input.
package main

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/gzip"
	"compress/lzw"
	"container/heap"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/csv"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"hash/adler32"
	"hash/crc32"
	"hash/crc64"
	"hash/fnv"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"maps"
	"math"
	"math/big"
	"math/cmplx"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/btree"
)

var random = rand.New(rand.NewPCG(1, 2))

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:8]) }

var programs = map[string]func(text []byte){
	"sort": func([]byte) {
		type row struct {
			name string
			n    uint64
		}
		rows := make([]row, 20000)
		for i := range rows {
			rows[i] = row{fmt.Sprint(random.Uint32()), random.Uint64()}
		}
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.n, b.n) })
		fmt.Println(rows[0], rows[len(rows)-1])
		sort.SliceStable(rows, func(i, j int) bool { return rows[i].name < rows[j].name })
		fmt.Println(rows[0], rows[len(rows)-1])
	},
	"hash": func(text []byte) {
		a, b, c, d := md5.Sum(text), sha1.Sum(text), sha512.Sum512(text), sha3.Sum256(text)
		f := fnv.New64a()
		f.Write(text)
		fmt.Printf("%x %x %x %x %x %x %x %x\n", a, b, c, d, crc32.ChecksumIEEE(text), crc64.Checksum(text, crc64.MakeTable(crc64.ECMA)), adler32.Checksum(text), f.Sum64())
	},
	"compress": func(text []byte) {
		var z, l bytes.Buffer
		w := must(gzip.NewWriterLevel(&z, 9))
		must(w.Write(text))
		check(w.Close())
		v := lzw.NewWriter(&l, lzw.LSB, 8)
		must(v.Write(text))
		check(v.Close())
		back := must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(z.Bytes())))))
		again := must(io.ReadAll(lzw.NewReader(&l, lzw.LSB, 8)))
		_, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(text)))
		fmt.Println(z.Len(), sum(z.Bytes()), bytes.Equal(back, text), bytes.Equal(again, text), err)
	},
	"json": func(text []byte) {
		words := map[string][]int{}
		for i, w := range strings.Fields(string(text)) {
			words[w] = append(words[w], i)
		}
		b := must(json.Marshal(words))
		var back map[string]any
		check(json.Unmarshal(b, &back))
		fmt.Println(len(b), sum(b), len(back), sum(must(json.MarshalIndent(back, "", " "))))
	},
	"matrix": func([]byte) {
		const n = 80
		var a [n][n]float64
		for i := range a {
			for j := range a[i] {
				a[i][j] = random.NormFloat64()
			}
		}
		det := 1.0
		for i := range n { // elimination without pivoting
			det *= a[i][i]
			for j := i + 1; j < n; j++ {
				f := a[j][i] / a[i][i]
				for k := i; k < n; k++ {
					a[j][k] -= f * a[i][k]
				}
			}
		}
		fmt.Println(det)
	},
	"nan": func(text []byte) { // what processors differ in
		zero := float64(len(text)) * 0
		nan := zero / zero
		fmt.Println(math.Inf(1)-math.Inf(1), math.Float64bits(nan), math.Float64bits(-nan), math.Float32bits(float32(nan)), math.Sqrt(zero-1), math.Float64bits(math.Sqrt(zero-1)))
	},
	"fourier": func([]byte) {
		x := make([]complex128, 4096)
		for i := range x {
			x[i] = complex(random.Float64(), random.Float64())
		}
		var fft func(x []complex128)
		fft = func(x []complex128) {
			n := len(x)
			if n == 1 {
				return
			}
			even, odd := make([]complex128, n/2), make([]complex128, n/2)
			for i := range even {
				even[i], odd[i] = x[2*i], x[2*i+1]
			}
			fft(even)
			fft(odd)
			for i := range even {
				t := cmplx.Exp(complex(0, -2*math.Pi*float64(i)/float64(n))) * odd[i]
				x[i], x[i+n/2] = even[i]+t, even[i]-t
			}
		}
		fft(x)
		fmt.Println(x[0], x[1], x[4095], cmplx.Tanh(x[7]), math.Gamma(real(x[9])))
	},
	"regex": func(text []byte) {
		for _, p := range []string{`(?i)\bthe (\w+)`, `[A-Z][a-z]+ [A-Z][a-z]+`, `(a|e|i|o|u){2,}`, `^\s*$`, `(\w+)\W+(\w+ing)`} {
			found := regexp.MustCompile(p).FindAllSubmatchIndex(text, -1)
			fmt.Println(p, len(found), sum(fmt.Append(nil, found)))
		}
	},
	"template": func(text []byte) {
		t := template.Must(template.New("t").Parse(`{{range $i, $w := .}}{{if gt (len $w) 8}}{{printf "%03d %-20q" $i $w}}{{else if eq $w "the"}}THE{{end}}{{end}}`))
		var b bytes.Buffer
		check(t.Execute(&b, strings.Fields(string(text))))
		w := tabwriter.NewWriter(os.Stdout, 4, 8, 1, ' ', 0)
		fmt.Fprintf(w, "%d\t%s\tx\n1\t2\t3\n", b.Len(), sum(b.Bytes()))
		check(w.Flush())
	},
	"compiler": func([]byte) {
		var b strings.Builder
		b.WriteString("package p\n")
		for i := range 300 {
			fmt.Fprintf(&b, "func f%d(x, y int)(int,error){if x>%d{return x*y+%d,nil};for i:=0;i<x;i++{y+=i};return y,nil}\n", i, i, i)
		}
		f := must(parser.ParseFile(token.NewFileSet(), "p.go", b.String(), parser.ParseComments))
		fmt.Println(len(f.Decls), sum(must(format.Source([]byte(b.String())))))
	},
	"bignum": func([]byte) {
		pi, one := new(big.Int), new(big.Int).Exp(big.NewInt(10), big.NewInt(600), nil)
		for k := int64(0); k < 500; k++ { // Bailey, Borwein, Plouffe
			term := new(big.Int)
			for _, t := range [][2]int64{{4, 1}, {-2, 4}, {-1, 5}, {-1, 6}} {
				term.Add(term, new(big.Int).Div(new(big.Int).Mul(one, big.NewInt(t[0])), big.NewInt(8*k+t[1])))
			}
			pi.Add(pi, term.Rsh(term, uint(4*k)))
		}
		fmt.Println(pi.String()[:500], new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 521), big.NewInt(1)).ProbablyPrime(4))
	},
	"image": func([]byte) {
		m := image.NewRGBA(image.Rect(0, 0, 96, 96))
		for i := range 96 * 96 {
			m.Set(i%96, i/96, color.RGBA{uint8(i), uint8(i / 96), uint8(i * i), 255})
		}
		var p, j, g bytes.Buffer
		check(png.Encode(&p, m))
		check(jpeg.Encode(&j, m, nil))
		check(gif.Encode(&g, m, nil))
		fmt.Println(sum(p.Bytes()), sum(j.Bytes()), sum(g.Bytes()), must(jpeg.Decode(&j)).At(5, 5))
	},
	"graph": func([]byte) {
		const n = 3000
		edges, far := make([][][2]int, n), make([]int, n)
		for i := range edges {
			far[i] = math.MaxInt
			for range 6 {
				edges[i] = append(edges[i], [2]int{random.IntN(n), 1 + random.IntN(100)})
			}
		}
		far[0] = 0
		q := &queue{{0, 0}}
		for q.Len() > 0 {
			at := heap.Pop(q).([2]int)
			for _, e := range edges[at[1]] {
				if d := at[0] + e[1]; d < far[e[0]] {
					far[e[0]] = d
					heap.Push(q, [2]int{d, e[0]})
				}
			}
		}
		fmt.Println(far[1], far[n-1], slices.Max(far))
	},
	"crypto": func(text []byte) {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
		s := ed25519.Sign(key, text)
		c := must(cipher.NewGCM(must(aes.NewCipher(bytes.Repeat([]byte{9}, 32)))))
		sealed := c.Seal(nil, make([]byte, 12), text, nil)
		fmt.Println(hex.EncodeToString(s), ed25519.Verify(key.Public().(ed25519.PublicKey), text, s), sum(sealed))
	},
	"encodings": func(text []byte) {
		lines := strings.Split(string(text), "\n")
		var g, c bytes.Buffer
		check(gob.NewEncoder(&g).Encode(lines))
		w := csv.NewWriter(&c)
		for _, l := range lines {
			check(w.Write(strings.Fields(l)))
		}
		w.Flush()
		type doc struct{ Line []string }
		fmt.Println(sum(g.Bytes()), sum(c.Bytes()), sum(must(xml.Marshal(doc{lines}))), sum(must(cbor.Marshal(lines))), len(base64.StdEncoding.EncodeToString(text)), utf8.RuneCount(text))
	},
	"goroutines": func(text []byte) {
		in, out := make(chan string), make(chan int, 3)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for w := range in {
					out <- len(w)
				}
			})
		}
		go func() {
			for w := range strings.FieldsSeq(string(text)) {
				in <- w
			}
			close(in)
			wg.Wait()
			close(out)
		}()
		total, count := 0, map[int]int{}
		for n := range out {
			total += n
			count[n]++
		}
		fmt.Println(total, count)
	},
	"index": func(text []byte) {
		t := btree.NewG(8, func(a, b string) bool { return a < b })
		for w := range strings.FieldsSeq(string(text)) {
			t.ReplaceOrInsert(w)
		}
		n := 0
		t.AscendRange("a", "c", func(string) bool { n++; return true })
		least, _ := t.Min()
		fmt.Println(t.Len(), n, least)
	},
}

// queue is a heap of distances and places.
type queue [][2]int

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i][0] < q[j][0] }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.([2]int)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func main() {
	if len(os.Args) > 1 {
		programs[os.Args[1]](must(io.ReadAll(os.Stdin)))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		fmt.Println(name)
	}
}
