# What the programs of this directory share; they read it with a dot. `$here` is the directory.
launch() { # MODULE ARGS...: become a module of ossfs, by the interpreter that it is installed for
    module=$1
    shift
    for python in "$here/../.venv/bin/python" "$here/../bin/python"; do
        if [ -x "$python" ]; then
            exec "$python" -P -m "$module" "$@"
        fi
    done
    exec python3 -P -m "$module" "$@"
}
