"""tokenizer.py: `winnow tokenize` beside Hugging Face's `tokenizers`, one thread each, in turns; CPU time of encoding.

    BUILD=build build/venv/bin/python tests/bench/tokenizer.py [ROUNDS]

Both get the same texts in memory, one after the other, and give ids, segments and offsets. `tokenizers` is called by
encode_batch() with its threads off, so that Python is crossed once for all texts; encode_batch_fast(), which gives no
offsets, is measured too and the better of the two is what counts."""
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "daemon"))
from common import CLI  # noqa: E402
from tokenizer_rig import BUILDERS, DATA, real_texts, texts  # noqa: E402
from tokenizers import BertWordPieceTokenizer, __version__  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5


def theirs(encode, lines):
    start = time.process_time()
    encode(lines)
    return (time.process_time() - start) * 1e3


def ours(folder, file):
    out = subprocess.run([CLI, "tokenize", folder, "-t", "-i", file], stdout=subprocess.PIPE, check=True).stdout.decode()
    return float(re.search(r"([\d.]+) ms", out)[1])


def main(tmp):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{cpu or platform.machine()}; tokenizers {__version__}; median of {ROUNDS} turns, CPU time of one thread")
    sets = {"English (AG News, banking77)": [t.decode() for t in real_texts(0)[:8000]],
            "every script": [t.decode("utf-8", "replace") for t in texts(5, 3000, newlines=False)]}
    tokenizers = {n: BUILDERS[n]() for n in ("wordpiece-uncased", "gpt2", "roberta", "llama3")}
    vocab = DATA / "models" / "bert_uncased_vocab.txt"
    if vocab.exists():
        tokenizers = {"bert-base-uncased": BertWordPieceTokenizer(str(vocab)), **tokenizers}
    for name, tokenizer in tokenizers.items():
        folder = tmp / name
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        for title, lines in sets.items():
            if not lines:
                print(f"{name}, {title}: left out, no data")
                continue
            lines = [line.replace("\n", " ") for line in lines]
            file = tmp / "lines.txt"
            file.write_text("\n".join(lines) + "\n")
            size = sum(len(line.encode()) for line in lines)
            raw = getattr(tokenizer, "_tokenizer", tokenizer)
            turns = [(ours(folder, file), theirs(raw.encode_batch, lines), theirs(raw.encode_batch_fast, lines))
                     for _ in range(ROUNDS)]
            a, b, fast = (statistics.median(t[i] for t in turns) for i in range(3))
            print(f"{name:20} {title:30} winnow {a:8.1f} ms {size / a / 1e3:6.1f} MB/s   tokenizers {b:8.1f} ms "
                  f"(fast {fast:8.1f} ms)   {min(b, fast) / a:5.1f} times", flush=True)


folder = tempfile.mkdtemp(prefix="wn-bench-tokenizer-")
try:
    main(pathlib.Path(folder))
finally:
    shutil.rmtree(folder)
