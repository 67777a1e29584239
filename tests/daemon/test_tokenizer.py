"""test_tokenizer.py: `winnow tokenize` against Hugging Face's `tokenizers`: ids, segments and offsets of texts that are
made to break it, with vocabularies of every kind that is read.

    test_tokenizer.py [LINES [FOLDER …]]     LINES for each tokenizer (default 1,000); folders with a tokenizer.json in
                                             place of the tokenizers that are made here
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unicodedata

from common import CLI, check, end
from tokenizer_rig import BUILDERS, DATA, expected, real_texts, texts
from tokenizers import BertWordPieceTokenizer, Tokenizer

LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
SEED = int(os.environ.get("SEED", "1"))
made = []  # the texts that every tokenizer sees


def winnow(folder, raws, *options, separator=b"\0"):
    p = subprocess.run([CLI, "tokenize", folder, *options], input=b"".join(r + separator for r in raws),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, check=False)
    if p.returncode:
        raise RuntimeError(p.stderr.decode())
    return p.stdout.decode().splitlines()


def differences(name, want, got, raws):
    bad = [i for i, (w, g) in enumerate(zip(want, got)) if w != g]
    tokens = sum(len(w.split()) for w in want)
    detail = ""
    if bad:
        i = bad[0]
        w, g = want[i].split(), got[i].split()
        k = next((k for k, (a, b) in enumerate(zip(w, g)) if a != b), min(len(w), len(g)))
        detail = (raws[i], "token", k, w[k:k + 4], g[k:k + 4], len(w), len(g))
    check(f"{name}: {len(want)} texts, {tokens} tokens, {len(bad)} differ", not bad and len(want) == len(got), detail)


def compare(name, tokenizer, folder):
    tokenizer.no_padding()
    if not made:
        made.extend([*texts(SEED, LINES), *real_texts(LINES // 5)])
    for at in range(0, len(made), 20000):
        raws = made[at:at + 20000]
        differences(name, expected(tokenizer, raws), winnow(folder, raws, "-o", "-z"), raws)
    few = max(LINES // 10, 100)
    raws = [r + b"\0" + r[:7] for r in texts(SEED + 1, few, newlines=False)]
    differences(f"{name}, with NUL", expected(tokenizer, raws), winnow(folder, raws, "-o", separator=b"\n"), raws)
    firsts = [r.replace(b"\t", b" ") for r in texts(SEED + 2, few)]
    seconds = list(texts(SEED + 3, few))
    lines = [a + b"\t" + b for a, b in zip(firsts, seconds)]
    differences(f"{name}, pairs", expected(tokenizer, firsts, seconds), winnow(folder, lines, "-o", "-z", "-p"), lines)
    own = tokenizer.truncation
    for n in (5, 12):
        tokenizer.enable_truncation(n)
        differences(f"{name}, pairs of {n}", expected(tokenizer, firsts, seconds),
                    winnow(folder, lines, "-o", "-z", "-p", "-m", str(n)), lines)
        differences(f"{name}, {n}", expected(tokenizer, firsts), winnow(folder, firsts, "-o", "-z", "-m", str(n)),
                    firsts)
    tokenizer.no_truncation()
    if own:
        tokenizer.enable_truncation(**own)


def every_character(folder, name, tokenizer):
    """Each code point alone, after a letter, before one, and twice; and every canonical decomposition."""
    raws = [f"{c} a{c}a {c}{c} A{c}\u0301 {c}.".encode() for c in map(chr, range(1, 0x110000))
            if not "\ud800" <= c <= "\udfff"]
    step = 1 if LINES >= 10000 else 29
    raws = raws[:0x3400] + raws[0x3400::step]
    parts = {unicodedata.normalize("NFD", chr(c)) for c in range(0x110000) if not 0xAC00 <= c < 0xD7A4}
    raws += [f"{p} {p[:-1]}\u0323{p[-1]} x".encode() for p in sorted(parts) if len(p) > 1]
    for at in range(0, len(raws), 200000):
        part = raws[at:at + 200000]
        differences(f"{name}, every {step} characters from {at}", expected(tokenizer, part),
                    winnow(folder, part, "-o", "-z"), part)


def files_of_before(tmp, vocab):
    """vocab.txt, and vocab.json with merges.txt"""
    for lower in (True, False):
        folder = tmp / f"vocab-txt-{lower}"
        folder.mkdir()
        shutil.copy(vocab, folder / "vocab.txt")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
        tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lower)
        compare(f"vocab.txt, do_lower_case {lower}", tokenizer, folder)
    for name, config in (("gpt2", {}), ("roberta", {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True})):
        folder = tmp / f"vocab-json-{name}"
        folder.mkdir()
        tokenizer = BUILDERS[name]()
        tokenizer.model.save(str(folder))
        if config:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        text = json.loads((folder / "vocab.json").read_text())
        text["<mask>"] = len(text)
        (folder / "vocab.json").write_text(json.dumps(text))
        compare(f"vocab.json, {name}", tokenizer, folder)


def main():
    for folder in sys.argv[2:]:
        compare(folder, Tokenizer.from_file(f"{folder}/tokenizer.json"), folder)
    if sys.argv[2:]:
        return end()
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="wn-tokenizer-"))
    try:
        for name, build in BUILDERS.items():
            folder = tmp / name
            folder.mkdir()
            tokenizer = build()
            tokenizer.save(str(folder / "tokenizer.json"))
            compare(name, tokenizer, folder)
            if name in ("wordpiece-uncased", "llama3", "nfkc", "kitchen-sink"):
                every_character(folder, name, tokenizer)
        vocab = DATA / "models" / "bert_uncased_vocab.txt"
        if not vocab.exists():
            vocab = tmp / "vocab.txt"
            order = json.loads((tmp / "wordpiece-uncased/tokenizer.json").read_text())["model"]["vocab"]
            vocab.write_text("".join(t + "\n" for t in sorted(order, key=order.get)))
        files_of_before(tmp, vocab)
    finally:
        shutil.rmtree(tmp)
    return end()


sys.exit(main())
