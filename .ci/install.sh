#!/bin/sh
# Make .venv and install the checkout into it. Safe to run again after an interruption.
set -eu

extras=$1

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -x .venv/bin/python ] && .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    echo "Using the environment in .venv."
else
    found=
    for candidate in ${PYTHON:-} python3.12 python3.13 python3.11 python3.14 python3 python; do
        if usable "$candidate"; then
            found=$candidate
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "Python 3.11 or newer with its venv module was not found." >&2
        echo "Install it (on Debian and Ubuntu: apt install python3 python3-venv), or name it:" >&2
        echo "    make demo PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
    echo "Making an environment in .venv with $("$found" --version)."
    "$found" -m venv --clear .venv
fi

# On a terminal pip shows how its downloads get on; in a log it only says what goes wrong.
quiet=--quiet
if [ -t 1 ]; then quiet=; fi

pip_install() {
    .venv/bin/python -m pip install $quiet --disable-pip-version-check -c constraints.txt "$@" || {
        echo "The installation failed; what pip said is above. Run the same command again to go on." >&2
        exit 1
    }
}

echo "Installing PyTorch (the large one; a few minutes the first time)."
pip_install torch
echo "Installing aquila2 and its tools."
pip_install -e ".[$extras]"
echo "Installed."
