# What nobody loads of the packages; sourced by build-deb and by containers/environment.
# shellcheck shell=bash

make_lean() { # SITE_PACKAGES; the sizes are of x86-64
    # of LiteRT only the interpreter; 42 MB
    [ ! -d "$1/ai_edge_litert" ] || find "$1/ai_edge_litert" -mindepth 1 -maxdepth 1 \( -name __init__.py -o -name interpreter.py \
        -o -name 'metrics_*.py' -o -name _pywrap_litert_interpreter_wrapper.so -o -name libpywrap_litert_common.so \) -o -print0 \
        | xargs --null --no-run-if-empty rm -rf
    rm -f "$1"/zstandard/_cffi*.so                                   # 12 MB: for PyPy
    rm -rf "$1"/numpy/{f2py,distutils,_pyinstaller}
    rm -f "$1"/numpy/_core/_simd.*.so "$1"/numpy/_core/_*_tests.*.so "$1"/numpy/linalg/lapack_lite.*.so
    # for those who compile something with it; of a trainer 400 MB
    rm -rf "$1"/tensorflow/include
    find "$1" \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) -delete
    find "$1" -type d -name tests -prune -exec rm -rf {} +            # 8 MB, of a trainer 140
}
