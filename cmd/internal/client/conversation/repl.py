# A conversation in Python: what a terminal's interpreter does, over a stream. With
# -i there are prompts.
import code
import sys

prompts = sys.argv[1:2] == ["-i"]
console = code.InteractiveConsole({"__name__": "__console__", "__doc__": None})
if prompts:
    print(f"Python {sys.version.split()[0]} with its standard library; Ctrl-D ends.")
more = False
while True:
    if prompts:
        sys.stdout.write("... " if more else ">>> ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        if more:
            console.push("")
        break
    more = console.push(line.rstrip("\n"))
if prompts:
    print()
