"""What `treadle map` does, apart from parsing its options and printing.

- `target`    the user's function, found by name, made to return JSON text
- `source`    the items of the input: lines of a file, or paths
- `codec`     the one JSON dialect of input, output and journal
- `journal`   the output file, which is also the record of what is done
- `failures`  the file beside it with the items that failed
- `files`     appending whole lines, replacing files whole
- `sink`      where results and failures go: the two files above, or stdout and stderr
- `stops`     Ctrl-C and SIGTERM, noticed only where nothing can be lost
- `loop`      the job itself: source -> treadle.map -> sink
"""
