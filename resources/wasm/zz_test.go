package wasm
import ("testing";"fmt";"os";"sort")
func TestZZ(t *testing.T){
 for _, n := range []string{"../../examples/stats/stats.wasm"} {
  b, _ := os.ReadFile(n)
  r := reader{b: b[8:]}
  var all []shape; var sq, bd uint64
  for len(r.b)>0 { id := r.u8(); body := r.take(r.u32()); if id==10 { c := reader{b: body}; c.each(func(){ f := reader{b: c.take(c.u32())}; f.each(func(){ f.u32(); f.u8()}); s := f.scanBody(); if f.err != nil { t.Fatal(f.err)}; all = append(all, s); sq += s.blocks*s.blocks; bd += s.blocks*s.depth }) } }
  sort.Slice(all, func(i,j int) bool { return all[i].blocks*all[i].depth > all[j].blocks*all[j].depth})
  fmt.Println(len(all), all[:15], sq, bd, r.err)
 }
}
