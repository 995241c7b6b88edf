# Python on standard input: a script, or with -i a conversation, as a terminal's
# interpreter has it. -c is for colours.
import code
import os
import sys
import traceback
import types

flags = set()
while sys.argv[1:2] in (["-i"], ["-c"]):
    flags.add(sys.argv.pop(1))
try:
    os.chdir("/tmp")  # where files are put
except (AttributeError, OSError):
    pass


def paint(number, text):
    return f"\x1b[{number}m{text}\x1b[0m" if "-c" in flags else text


class Console(code.InteractiveConsole):
    def write(self, data):
        sys.stderr.write(paint(31, data.rstrip("\n")) + "\n")
        sys.stderr.flush()


def talk():
    console = Console({"__name__": "__console__", "__doc__": None})
    print(f"Python {sys.version.split()[0]} with its standard library; Ctrl-D ends.")
    more = False
    while True:
        sys.stdout.write(paint(32, "... " if more else ">>> "))
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            if more:
                console.push("")
            break
        if line == "\x03\n":  # Ctrl-C
            console.resetbuffer()
            more = False
            print("\nKeyboardInterrupt")
            continue
        more = console.push(line.rstrip("\n"))
    print()


def script():
    ours, main = sys.modules["__main__"], types.ModuleType("__main__")
    sys.modules["__main__"] = main
    try:
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), main.__dict__)
    except Exception as error:
        sys.stdout.flush()
        traceback.print_exception(type(error), error, error.__traceback__.tb_next)
        sys.stderr.flush()
        sys.exit(1)
    return ours


if "-i" in flags:
    talk()
else:
    script()
