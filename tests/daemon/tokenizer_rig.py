"""tokenizer_rig.py: texts to break a tokenizer with, tokenizers to compare, and what Hugging Face's `tokenizers` makes
of a text, in the terms of `winnow tokenize --offsets`."""
import codecs
import csv
import json
import pathlib
import random
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers)

DATA = pathlib.Path("../shared/data")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")

# ---- texts ----
BLOCKS = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F),
          (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x77F), (0x780, 0x7BF), (0x7C0, 0x8FF), (0x900, 0x97F),
          (0x980, 0x9FF), (0xA00, 0xB7F), (0xB80, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F),
          (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x16FF), (0x1700, 0x18AF), (0x1900, 0x1AFF),
          (0x1B00, 0x1CFF), (0x1D00, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x23FF),
          (0x2460, 0x27BF), (0x2C00, 0x2DFF), (0x2E00, 0x2FFF), (0x3000, 0x30FF), (0x3100, 0x33FF), (0x3400, 0x4DBF),
          (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA640, 0xA7FF), (0xA800, 0xABFF), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FF),
          (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFE70, 0xFFFF), (0x10000, 0x103FF),
          (0x10400, 0x108FF), (0x10900, 0x10FFF), (0x11000, 0x119FF), (0x11A00, 0x11FFF), (0x12000, 0x12FFF),
          (0x16800, 0x16FFF), (0x1B000, 0x1BFFF), (0x1CC00, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1D800, 0x1E9FF),
          (0x1EA00, 0x1EEFF), (0x1F000, 0x1F2FF), (0x1F300, 0x1FAFF), (0x1FB00, 0x1FBFF), (0x20000, 0x20FFF),
          (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF), (0xF0000, 0xF00FF), (0, 0x10FFFF)]
MARKS = [c for c in range(0x110000) if unicodedata.combining(chr(c))]
SPACES = " \t\r\x0b\x0c\x1c\x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
EMOJI = ["\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466", "\U0001F44D\U0001F3FD", "\u2764\uFE0F",
         "\U0001F1E9\U0001F1EA", "\U0001F3F4\U000E0067\U000E0062\U000E007F", "1\uFE0F\u20E3",
         "\U0001F937\u200D\u2642\uFE0F"]
WORDS = """the of and to in is that it was for unaffable tokenization don't I'll we've you're she's he'd I'M THEY'RE
 Grüße straße İstanbul DİYARBAKIR ΣΊΣΥΦΟΣ naïve café façade Ångström Việt résumé 2024 3.14159 1,000,000 x=y;
 http://example.com/a?b=c&d foo_bar C++ #tag @user ... -- — “quoted” 'single' ﬁnance ſharp ß ẞ ǅ ½ ① ⅷ ㎏ ℌ Ω K
 한국어 각 가각 กำลัง हिन्दी ক্ষ தமிழ் العربية עברית ਪੰਜਾਬੀ 你好 世界 日本語 ひらがな カタカナ ｶﾞ 漢字かな ไทย မြန်မာ ខ្មែរ
 [MASK] [SEP] [UNK] <mask> <s> </s> <|endoftext|> ##ing Ġ ▁
 \u200b\u200d\ufeff \u0344\u0f73\u0f75\u0f81 \u0340\u0341\u0343""".split()
INVALID = [b"\x80", b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xc3",
           b"\xf8\x88\x80\x80\x80", b"\xe0\x80\x80"]


def char(rng):
    while True:
        c = rng.randint(*rng.choice(BLOCKS))
        if not 0xD800 <= c < 0xE000 and c != 0:
            return chr(c)


def word(rng):
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(WORDS)
    if kind < 0.6:  # one script
        lo, hi = rng.choice(BLOCKS[:-1])
        return "".join(chr(c) for c in (rng.randint(lo, hi) for _ in range(rng.randint(1, 9)))
                       if not 0xD800 <= c < 0xE000 and c)
    if kind < 0.7:
        return "".join(char(rng) for _ in range(rng.randint(1, 6)))
    if kind < 0.8:  # marks, in any order
        return char(rng) + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(1, 5)))
    if kind < 0.85:
        return rng.choice(EMOJI)
    if kind < 0.92:
        return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), rng.choice(WORDS)) + char(rng)
    if kind < 0.95:
        return chr(rng.randint(1, 0x9F))
    if kind < 0.97:  # long ones
        return rng.choice(["a", "ab", "é", "中", "!", "x" * 99 + "y", "1"]) * rng.randint(20, 130)
    if kind < 0.98:
        return "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(30, 50)))
    return rng.choice(["", "\r\n", " \n\n ", "\n"])


def texts(seed, n, newlines=True):
    """n texts as bytes, some of them not UTF-8"""
    rng = random.Random(seed)
    for _ in range(n):
        parts = []
        for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8, 13, 21])):
            w = word(rng)
            if rng.random() < 0.2:
                w = rng.choice([str.upper, str.title, str.lower])(w)
            parts.append(w.encode())
            if rng.random() < 0.02:
                parts.append(rng.choice(INVALID))
            if rng.random() < 0.85:
                parts.append((" " if rng.random() < 0.8 else rng.choice(SPACES) * rng.randint(1, 3)).encode())
        text = b"".join(parts).replace(b"\0", b"")
        yield text if newlines else text.replace(b"\n", b" ")


def real_texts(n):
    """Lines of AG News and banking77, where the data is there."""
    out = []
    for name in ("ag_news/train.csv", "ag_news/val.csv", "banking77/train.csv", "banking77/test.csv"):
        path = DATA / "datasets" / name
        if path.exists():
            with open(path, newline="", encoding="utf-8") as f:
                out += [" ".join(row).encode() for row in csv.reader(f)]
    return out[:n] if n else out


# ---- tokenizers ----
def corpus():
    return [t.decode("utf-8", "replace") for t in texts(77, 2000)] + [t.decode() for t in real_texts(3000)]


def specials(names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


def wordpiece(lower):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=None if lower else False)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=6000, special_tokens=specials(names),
                                                              show_progress=False))
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
                                                     [("[CLS]", 2), ("[SEP]", 3)])
    return t


def byte_level(pre, size=5000, special=("<s>", "<pad>", "</s>", "<unk>"), **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def gpt2():
    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), special=["<|endoftext|>"])
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def roberta():
    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
    return t


def llama3():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K), "isolated"),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t = byte_level(pre, ignore_merges=True)
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 0)])])
    return t


def qwen2():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K.replace("{1,3}", "")), "isolated"),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t = byte_level(pre, size=2000)
    t.normalizer = normalizers.NFC()
    return t


def clip():
    """lower case, end of word, white space by an expression"""
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"[ \t]+"), " "),
                                         normalizers.Lowercase(), normalizers.Strip()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                               pre_tokenizers.Punctuation("merged_with_next"),
                                               pre_tokenizers.Digits(individual_digits=False)])
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=2500, special_tokens=specials(["<unk>"]),
                                                        end_of_word_suffix="</w>", show_progress=False,
                                                        limit_alphabet=300))
    return t


def llama2():
    """sentencepiece's ways: a mark for the space, bytes for what is unknown"""
    marked = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    base = Tokenizer(models.BPE())
    base.normalizer = marked
    base.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    base.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=1500, show_progress=False, limit_alphabet=200))
    model = json.loads(base.to_str())["model"]
    vocab = dict(model["vocab"])
    for b in range(256):
        vocab.setdefault(f"<0x{b:02X}>", len(vocab))
    vocab.setdefault("<unk>", len(vocab))
    t = Tokenizer(models.BPE(vocab, [tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True,
                             byte_fallback=True))
    t.normalizer = marked
    return t


def kitchen_sink():
    """added tokens of every kind, compatibility forms, words by \\w"""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(),
                                               pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.Split("_", "contiguous"),
                                               pre_tokenizers.Split(Regex("ch|[aeiou]{2}"), "merged_with_previous")])
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=3000, special_tokens=specials(["[UNK]"]),
                                                              show_progress=False))
    t.add_tokens([AddedToken("the", single_word=True, normalized=False), AddedToken("İstanbul", normalized=True),
                  AddedToken("of", lstrip=True, rstrip=True), AddedToken("é", normalized=True, single_word=True),
                  AddedToken("you", rstrip=True), AddedToken("中", normalized=False, lstrip=True)])
    t.add_special_tokens([AddedToken("[MASK]", lstrip=True), AddedToken("<s>"), AddedToken("[SEP]", rstrip=True)])
    t.post_processor = processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("<s>", t.token_to_id("<s>")))
    t.enable_truncation(24, strategy="longest_first", direction="left")
    return t


def nfkc():
    t = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(True)]), size=1500)
    t.normalizer = normalizers.NFKC()
    t.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
    return t


BUILDERS = {"wordpiece-uncased": lambda: wordpiece(True), "wordpiece-cased": lambda: wordpiece(False), "gpt2": gpt2,
            "roberta": roberta, "llama3": llama3, "qwen2": qwen2, "clip": clip, "llama2": llama2,
            "kitchen-sink": kitchen_sink, "nfkc": nfkc}


# ---- what `tokenizers` says ----
_cuts = []
codecs.register_error("cut", lambda e: (_cuts.append((e.start, e.end)), ("\ufffd", e.end))[1])


def decode(raw):
    """The text as Python sees it, and where each character starts in `raw` (and the end of the last)."""
    _cuts.clear()
    text, bad, starts, at = raw.decode("utf-8", "cut"), dict(_cuts), [0], 0
    for c in text:
        at = bad[at] if at in bad else at + len(c.encode())
        starts.append(at)
    return text, starts


def expected(tokenizer, raws, pairs=None):
    """The lines that `winnow tokenize -o` shall print."""
    decoded, seconds = [decode(r) for r in raws], [decode(r) for r in pairs] if pairs else None
    ask = [d[0] for d in decoded] if not pairs else [(a[0], b[0]) for a, b in zip(decoded, seconds)]
    out = []
    for i, e in enumerate(tokenizer.encode_batch(ask)):
        tokens = []
        for token, kind, (a, b), sequence in zip(e.ids, e.type_ids, e.offsets, e.sequence_ids):
            starts = seconds[i][1] if sequence == 1 else decoded[i][1]
            tokens.append(f"{token}/{kind}/{starts[a]}-{starts[b]}" if sequence is not None else f"{token}/{kind}/0-0")
        out.append(" ".join(tokens))
    return out
