"""Builds the native core, and says what the package needs.  Everything else about it is in pyproject.toml.

TREADLE_WERROR=1                 warnings are errors (CI)
TREADLE_SANITIZE=address|thread  build for that sanitizer, with debug checks
TREADLE_DEBUG=1                  the checks of lock ranks and states
TREADLE_MUTE=1                   without what only diagnosis reads: for benchmarks/rows/board.py, which measures that
TREADLE_POINTS=1                 the named points at which tests kill a process (_native/system/points.h)
"""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("src/treadle/_native")

NEEDS = ["click>=8.1", "cloudpickle>=3.0", "rich>=13.0"]
# Managers store their data with it.  On a free-threaded Python it can't be built everywhere, and to import it brings
# the GIL back: there, who wants managers installs it by hand.
if not sysconfig.get_config_var("Py_GIL_DISABLED"):
    NEEDS.append("lmdb>=1.7")


def flags():
    compile_args = ["-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden", "-O3", "-fno-semantic-interposition"]
    link_args = []
    macros = []
    if os.environ.get("TREADLE_WERROR") == "1":
        compile_args.append("-Werror")
    sanitizer = os.environ.get("TREADLE_SANITIZE", "")
    if sanitizer not in ("", "address", "thread"):
        sys.exit(f"treadle: TREADLE_SANITIZE={sanitizer!r}: only 'address' and 'thread' are known.")
    if sanitizer:
        compile_args += [f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-g", "-O1"]
        link_args.append(f"-fsanitize={sanitizer}")
    if sanitizer or os.environ.get("TREADLE_DEBUG") == "1":
        macros.append(("TREADLE_DEBUG", "1"))
        compile_args.append("-UNDEBUG")
    if os.environ.get("TREADLE_MUTE") == "1":
        macros.append(("TREADLE_MUTE", "1"))
    if os.environ.get("TREADLE_POINTS") == "1":
        macros.append(("TREADLE_POINTS", "1"))
    return {"extra_compile_args": compile_args, "extra_link_args": link_args, "define_macros": macros}


class Build(build_ext):
    def run(self):
        if not sys.platform.startswith("linux"):
            sys.exit(
                f"treadle can't be built here: its native core needs Linux (futex, memfd), and this is {sys.platform}."
            )
        super().run()

    def build_extension(self, extension):
        try:
            super().build_extension(extension)
        except Exception as error:
            sys.exit(
                "treadle can't be built here: its native core needs a C11 compiler and the headers of this Python "
                f"(python3-dev or python3-devel); the compiler's own words are above. ({error})"
            )


setup(
    install_requires=NEEDS,
    ext_modules=[
        Extension(
            "treadle._native._core",
            sources=sorted(str(path) for path in NATIVE.rglob("*.c")),
            depends=sorted(str(path) for path in NATIVE.rglob("*.h")),
            include_dirs=[str(NATIVE)],
            **flags(),
        )
    ],
    cmdclass={"build_ext": Build},
)
