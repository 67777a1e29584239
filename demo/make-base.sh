#!/bin/sh
# make-base.sh: trains the demo's base model again: 8,000 upright letters in six fonts, from random weights. The same
# seeds give the same files on the same kind of CPU. Needs the programs in $BUILD.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
work=$BUILD/demo/base
rm -rf "$work"
mkdir -p "$work/zero"
"$BUILD/demo/net" "$work/zero/model.onnx" 1
cp demo/base/labels.txt demo/base/pipeline.yaml "$work/zero/"
"$BUILD/demo/maker" set --style base --number 8000 --seed 1 "$work/letters.zip"
"$BUILD/winnow" sparsify --model "$work/zero" --data "$work/letters.zip" --recipe demo/base/train.yaml --output "$work/out"
"$BUILD/demo/maker" rows --style base --number 900 --seed 900 "$work/anchor.npz"
"$BUILD/winnow" evaluate "$work/out/master.onnx" "$work/anchor.npz"
cp "$work/out/master.onnx" demo/base/model.onnx
cp "$work/anchor.npz" demo/base/anchor.npz
ls -l demo/base
