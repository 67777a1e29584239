#!/usr/bin/env python3
"""Writes pipeline/tok/unicode_delta.def: where Hugging Face's `tokenizers` and libutf8proc differ about a character.

    build/venv/bin/python tools/unicode-delta.py > pipeline/tok/unicode_delta.def

`tokenizers` asks five crates and a C library, each with the Unicode version of its day (8 to 17); a vocabulary is only
right with the classes it was trained with. So every code point is shown to `tokenizers` and the answer compared with
what pipeline/tok/unicode.c makes of utf8proc's category; the differences are the lines of the table.
tests/daemon/test_tokenizer.py compares every code point again, through the finished tokenizer."""
import ctypes
import importlib.metadata

from tokenizers import Regex, normalizers, pre_tokenizers

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co".split()
STABLE, COMPAT, DECOMPOSE = 2, 4, 16
lib = ctypes.CDLL("libutf8proc.so.2")
lib.utf8proc_version.restype = lib.utf8proc_unicode_version.restype = ctypes.c_char_p


class Property(ctypes.Structure):
    _fields_ = [("category", ctypes.c_int16), ("combining_class", ctypes.c_int16)]


lib.utf8proc_get_property.restype = ctypes.POINTER(Property)


def decomposed(c, options):
    room, boundclass = (ctypes.c_int32 * 64)(), ctypes.c_int()
    n = lib.utf8proc_decompose_char(c, room, 64, options, ctypes.byref(boundclass))
    return "".join(map(chr, room[:n]))


def theirs():
    """what `tokenizers` says: name -> set of code points"""
    def vanishing(f):
        return {c for c in ALL if not f(chr(c))}

    def pattern(p):
        return pre_tokenizers.Split(Regex(p), "removed").pre_tokenize_str

    digits, words = pre_tokenizers.Digits(), pre_tokenizers.Whitespace()
    clean = normalizers.BertNormalizer(True, False, False, False)
    accents = normalizers.BertNormalizer(False, False, True, False)
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    return {
        "SPACE": vanishing(pre_tokenizers.WhitespaceSplit().pre_tokenize_str),
        "RE_SPACE": vanishing(pattern(r"\s")),
        "CONTROL": vanishing(clean.normalize_str),
        "PUNCT": vanishing(pre_tokenizers.Punctuation("removed").pre_tokenize_str),
        "NUMERIC": {c for c in ALL if len(digits.pre_tokenize_str("a" + chr(c))) == 2},
        "NONSPACING": vanishing(accents.normalize_str),
        "MARK": vanishing(normalizers.StripAccents().normalize_str),
        "WORD": {c for c in ALL if len(words.pre_tokenize_str("a" + chr(c))[0][0]) == 2},
        "RE_LETTER": vanishing(pattern(r"\p{L}")),
        "RE_NUMBER": vanishing(pattern(r"\p{N}")),
        # U+0345 has class 240: it changes places with any other mark that follows it
        "REORDERS": {c for c in ALL if nfd.normalize_str(chr(0x345) + chr(c))[:1] != chr(0x345)},
        "CANONICAL": {c: nfd.normalize_str(chr(c)) for c in ALL},
        "COMPATIBLE": {c: nfkd.normalize_str(chr(c)) for c in ALL},
    }


def ours():
    """the same as unicode.c derives it from utf8proc"""
    of = {k: set() for k in CATEGORIES}
    for c in ALL:
        of[CATEGORIES[lib.utf8proc_category(c)]].add(c)

    def cats(*names):
        return set().union(*(of[n] for n in names))

    space = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
    letters, marks, numbers = cats("Lu", "Ll", "Lt", "Lm", "Lo"), cats("Mn", "Mc", "Me"), cats("Nd", "Nl", "No")
    circled = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)}
    return {
        "SPACE": space, "RE_SPACE": space,
        "CONTROL": cats("Cc", "Cf", "Co") - {9, 10, 13} | {0xFFFD},
        "PUNCT": cats("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po") | set(b"$+<=>^`|~"),
        "NUMERIC": numbers, "NONSPACING": cats("Mn"), "MARK": marks,
        "WORD": letters | marks | cats("Nd", "Nl", "Pc") | {0x200C, 0x200D} | circled,
        "RE_LETTER": letters, "RE_NUMBER": numbers,
        "REORDERS": {c for c in ALL if lib.utf8proc_get_property(c).contents.combining_class not in (0, 240)
                     or decomposed(c, DECOMPOSE | STABLE) != chr(c)
                     and lib.utf8proc_get_property(ord(decomposed(c, DECOMPOSE | STABLE)[0])).contents.combining_class},
        "CANONICAL": {c: decomposed(c, DECOMPOSE | STABLE) for c in ALL},
        "COMPATIBLE": {c: decomposed(c, DECOMPOSE | COMPAT | STABLE) for c in ALL},
    }


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def main():
    t, o = theirs(), ours()
    assert t["SPACE"] == o["SPACE"] == t["RE_SPACE"], "white space: unicode.c has one class for both"
    print(f"""/* unicode_delta.def: where tokenizers {importlib.metadata.version("tokenizers")} and utf8proc \
{lib.utf8proc_version().decode()} (Unicode {lib.utf8proc_unicode_version().decode()}) differ.
 * Written by tools/unicode-delta.py. FLIP: the class is the other way round; LOWER: lower case is this far off. */
/* clang-format off */""")
    for name in ("CONTROL", "PUNCT", "NUMERIC", "NONSPACING", "MARK", "WORD", "RE_LETTER", "RE_NUMBER"):
        for a, b in ranges(t[name] ^ o[name]):
            print(f"FLIP({name + ',':11} 0x{a:04x}, 0x{b:04x})")
    for name in ("CANONICAL", "COMPATIBLE"):
        differ = {c for c in ALL if t[name][c] != o[name][c]}
        assert all(t[name][c] == chr(c) for c in differ), "a character that decomposes in another way"
        if name == "COMPATIBLE":
            for a, b in ranges(differ):
                print(f"FLIP(WHOLE,      0x{a:04x}, 0x{b:04x})")
        else:
            assert differ <= {c for c in ALL if t["COMPATIBLE"][c] != o["COMPATIBLE"][c]}
    assert t["REORDERS"] <= o["REORDERS"]
    for a, b in ranges(o["REORDERS"] - t["REORDERS"]):
        print(f"FLIP(STARTER,    0x{a:04x}, 0x{b:04x})")
    lower, runs = normalizers.Lowercase(), []
    for c in ALL:
        want, have = lower.normalize_str(chr(c)), chr(lib.utf8proc_tolower(c))
        if want == have or c == 0x130:
            continue
        assert len(want) == 1
        d = ord(want) - c
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == d:
            runs[-1][1] = c
        else:
            runs.append([c, c, d])
    for a, b, d in runs:
        print(f"LOWER(0x{a:04x}, 0x{b:04x}, {d})")


main()
