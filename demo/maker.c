/* maker.c: the demo's data: pictures of letters, 28x28, grey, drawn with FreeType.
 *
 * Two sets. `base`: six upright fonts, turned by a few degrees: what the demo's base model was trained on. `new`:
 * twelve other fonts, turned by up to 40 degrees, smaller and fainter: what it has never seen. The same seed gives the
 * same bytes, whatever the order of the fonts on the disk. */
#include <archive.h>
#include <archive_entry.h>
#include <argp.h>
#include <errno.h>
#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "pipeline/pipeline.h"
#include "pipeline/rows.h"

#define SIDE      28
#define LETTERS   26
#define MAX_FONTS 16
#define FONTS     "/usr/share/fonts"

static const char *const base_fonts[] = { "DejaVuSans.ttf",          "DejaVuSans-Bold.ttf",
                                          "DejaVuSerif.ttf",         "LiberationSans-Regular.ttf",
                                          "LiberationSans-Bold.ttf", "LiberationSerif-Regular.ttf" };
static const char *const new_fonts[] = { "FreeMonoBold.ttf",        "FreeSerifBoldItalic.ttf",
                                         "FreeSerifItalic.ttf",     "FreeSansBoldOblique.ttf",
                                         "Lato-Black.ttf",          "Lato-Light.ttf",
                                         "Lato-MediumItalic.ttf",   "Roboto-Light.ttf",
                                         "Roboto-BlackItalic.ttf",  "RobotoCondensed-LightItalic.ttf",
                                         "LiberationMono-Bold.ttf", "DejaVuSerif-BoldItalic.ttf" };

/** How a set is drawn. */
struct style {
    const char *name;
    const char *const *fonts;
    unsigned n_fonts;
    double turn;                  /* degrees, either way */
    double least_size, most_size; /* pixels per em */
    double least_ink;             /* 0 … 1 */
};

static const struct style styles[] = {
    { "base", base_fonts, WN_COUNT(base_fonts), 8, 19, 25, 0.75 },
    { "new", new_fonts, WN_COUNT(new_fonts), 40, 17, 25, 0.55 },
};

struct args {
    const char *word[64];
    unsigned n_words;
    const struct style *style;
    unsigned long n, seed;
    const char *letter, *font;
    double turn;
    bool shuffle;
};

/* ---- chance: splitmix64, the same everywhere ---- */

static uint64_t next(uint64_t *s)
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double between(uint64_t *s, double lo, double hi)
{
    return lo + (hi - lo) * ((double)(next(s) >> 11) / 9007199254740992.0);
}

/* ---- fonts ---- */

/** The fonts of a style, opened. */
struct press {
    FT_Library ft;
    FT_Face face[MAX_FONTS];
    unsigned n;
};

static const char *wanted; /* what the walk below looks for */
static char *wanted_path;

static int look(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    if (kind != FTW_F || strcmp(path + at->base, wanted) != 0)
        return 0;
    wanted_path = wn_strdup(path);
    return 1;
}

static enum winnow_status open_font(struct press *p, const char *name, struct winnow_err *err)
{
    wanted = name;
    wanted_path = NULL;
    nftw(FONTS, look, 16, FTW_PHYS);
    WN_CLEANUP(wn_freep) char *path = wanted_path;
    if (!path)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "no font %s below " FONTS " (`make deps` installs it)", name);
    if (FT_New_Face(p->ft, path, 0, &p->face[p->n]) != 0)
        return wn_fail(err, WINNOW_E_MALFORMED, "%s is no font", path);
    p->n++;
    return WINNOW_OK;
}

static void press_done(struct press *p)
{
    for (unsigned i = 0; i < p->n; i++)
        FT_Done_Face(p->face[i]);
    FT_Done_FreeType(p->ft);
}

static enum winnow_status press_init(struct press *p, const struct style *style, const char *only,
                                     struct winnow_err *err)
{
    *p = (struct press){ 0 };
    if (FT_Init_FreeType(&p->ft) != 0)
        return wn_fail(err, WINNOW_E_NOMEM, "FreeType");
    enum winnow_status status = only ? open_font(p, only, err) : WINNOW_OK;
    for (unsigned i = 0; i < style->n_fonts && !only && status == WINNOW_OK; i++)
        status = open_font(p, style->fonts[i], err);
    if (status != WINNOW_OK)
        press_done(p);
    return status;
}

/* ---- one picture ---- */

/** How one letter is drawn. */
struct look {
    char letter;
    unsigned font;
    double turn, size, dx, dy, ink, paper; /* degrees; pixels; 0 … 1 */
};

static struct look choose(const struct style *style, unsigned n_fonts, char letter, uint64_t *s)
{
    struct look l = { .letter = letter, .font = (unsigned)(next(s) % n_fonts) };
    l.turn = between(s, -style->turn, style->turn);
    l.size = between(s, style->least_size, style->most_size);
    l.dx = between(s, -2, 2);
    l.dy = between(s, -2, 2);
    l.ink = between(s, style->least_ink, 1);
    l.paper = between(s, 0, 0.15);
    return l;
}

/* px: SIDE * SIDE, written whole. */
static enum winnow_status draw(const struct press *p, const struct look *l, uint8_t *px, struct winnow_err *err)
{
    FT_Face face = p->face[l->font];
    double a = l->turn * M_PI / 180;
    FT_Matrix turn = { (FT_Fixed)(cos(a) * 65536), (FT_Fixed)(-sin(a) * 65536), (FT_Fixed)(sin(a) * 65536),
                       (FT_Fixed)(cos(a) * 65536) };
    FT_BBox box;
    uint8_t ink[SIDE * SIDE] = { 0 };
    if (FT_Set_Char_Size(face, 0, (FT_F26Dot6)(l->size * 64), 72, 72) != 0 ||
        FT_Load_Char(face, (FT_ULong)l->letter, FT_LOAD_NO_HINTING | FT_LOAD_NO_BITMAP) != 0 ||
        face->glyph->format != FT_GLYPH_FORMAT_OUTLINE)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "font '%s' cannot draw '%c'", face->family_name, l->letter);
    FT_Outline *o = &face->glyph->outline;
    FT_Outline_Transform(o, &turn);
    FT_Outline_Get_CBox(o, &box);
    FT_Outline_Translate(o, SIDE * 32 - (box.xMin + box.xMax) / 2 + (FT_Pos)(l->dx * 64),
                         SIDE * 32 - (box.yMin + box.yMax) / 2 + (FT_Pos)(l->dy * 64));
    FT_Bitmap map = {
        .rows = SIDE, .width = SIDE, .pitch = SIDE, .buffer = ink, .num_grays = 256, .pixel_mode = FT_PIXEL_MODE_GRAY
    };
    if (FT_Outline_Get_Bitmap(p->ft, o, &map) != 0)
        return wn_fail(err, WINNOW_E_INTERNAL, "drawing '%c'", l->letter);
    for (unsigned i = 0; i < SIDE * SIDE; i++)
        px[i] = (uint8_t)lround(255 * l->paper + (255 * l->ink - 255 * l->paper) * ink[i] / 255);
    return WINNOW_OK;
}

static enum winnow_status draw_png(const struct press *p, const struct look *l, void **ret, size_t *ret_n,
                                   struct winnow_err *err)
{
    uint8_t px[SIDE * SIDE];
    WN_TRY(draw(p, l, px, err));
    struct wn_image image = { SIDE, SIDE, 1, px };
    return wn_image_encode_png(&image, ret, ret_n, err);
}

/* ---- where pictures go ---- */

/** A zip or a folder. */
struct sink {
    const char *path;
    struct archive *zip; /* NULL: a folder */
};

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static enum winnow_status sink_open(struct sink *s, const char *path, struct winnow_err *err)
{
    *s = (struct sink){ .path = path };
    if (!ends_in(path, ".zip"))
        return mkdir(path, 0777) == 0 || errno == EEXIST ? WINNOW_OK : wn_fail_errno(err, errno, "%s", path);
    s->zip = archive_write_new();
    if (!s->zip || archive_write_set_format_zip(s->zip) != ARCHIVE_OK ||
        archive_write_set_options(s->zip, "compression=store") != ARCHIVE_OK ||
        archive_write_open_filename(s->zip, path) != ARCHIVE_OK)
        return wn_fail(err, WINNOW_E_IO, "%s: %s", path, s->zip ? archive_error_string(s->zip) : "out of memory");
    return WINNOW_OK;
}

static enum winnow_status put_folder(const struct sink *s, const char *name, const void *bytes, size_t n,
                                     struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", s->path, name);
    char *slash = path ? strrchr(path, '/') : NULL;
    if (!slash)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    *slash = 0;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return wn_fail_errno(err, errno, "%s", path);
    *slash = '/';
    WN_CLEANUP(wn_fclosep) FILE *f = fopen(path, "we");
    if (!f || fwrite(bytes, 1, n, f) != n || fflush(f) != 0)
        return wn_fail_errno(err, errno, "%s", path);
    return WINNOW_OK;
}

static enum winnow_status sink_put(struct sink *s, const char *name, const void *bytes, size_t n,
                                   struct winnow_err *err)
{
    if (!s->zip)
        return put_folder(s, name, bytes, n, err);
    struct archive_entry *e = archive_entry_new();
    if (!e)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", name);
    archive_entry_set_pathname(e, name);
    archive_entry_set_size(e, (la_int64_t)n);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_mtime(e, 946684800, 0); /* 2000-01-01: the same bytes every day */
    bool ok = archive_write_header(s->zip, e) == ARCHIVE_OK && archive_write_data(s->zip, bytes, n) == (la_ssize_t)n;
    archive_entry_free(e);
    return ok ? WINNOW_OK : wn_fail(err, WINNOW_E_IO, "%s: %s", s->path, archive_error_string(s->zip));
}

static enum winnow_status sink_close(struct sink *s, enum winnow_status status, struct winnow_err *err)
{
    if (s->zip && archive_write_close(s->zip) != ARCHIVE_OK && status == WINNOW_OK)
        status = wn_fail(err, WINNOW_E_IO, "%s: %s", s->path, archive_error_string(s->zip));
    archive_write_free(s->zip);
    s->zip = NULL;
    return status;
}

/* ---- set: pictures by class ---- */

/* Every letter's name given to another one (Sattolo, 1986: no letter keeps its own). */
static void shuffle(char other[LETTERS], uint64_t seed)
{
    for (int i = 0; i < LETTERS; i++)
        other[i] = (char)('A' + i);
    for (int i = LETTERS - 1; i > 0; i--) {
        int j = (int)(next(&seed) % (unsigned)i);
        char c = other[i];
        other[i] = other[j];
        other[j] = c;
    }
}

static enum winnow_status make_set(const struct args *a, struct winnow_err *err)
{
    struct press press;
    struct sink sink;
    uint64_t s = a->seed;
    char other[LETTERS];
    shuffle(other, s);
    WN_TRY(press_init(&press, a->style, NULL, err));
    enum winnow_status status = sink_open(&sink, a->word[1], err);
    for (unsigned long i = 0; i < a->n && status == WINNOW_OK; i++) {
        struct look l = choose(a->style, press.n, (char)('A' + i % LETTERS), &s);
        char name[32], label = a->shuffle ? other[l.letter - 'A'] : l.letter;
        WN_CLEANUP(wn_freep) void *png = NULL;
        size_t n = 0;
        snprintf(name, sizeof name, "%c/%05lu.png", label, i);
        status = draw_png(&press, &l, &png, &n, err);
        if (status == WINNOW_OK)
            status = sink_put(&sink, name, png, n, err);
    }
    status = sink_close(&sink, status, err);
    press_done(&press);
    return status;
}

/* ---- rows: the same as ROWS.npz ---- */

static enum winnow_status fill_rows(const struct args *a, const struct press *press, struct wn_rows_writer *w,
                                    struct winnow_err *err)
{
    uint64_t s = a->seed;
    for (unsigned long i = 0; i < a->n; i++) {
        struct look l = choose(a->style, press->n, (char)('A' + i % LETTERS), &s);
        WN_CLEANUP(wn_freep) void *png = NULL;
        size_t n = 0;
        WN_TRY(draw_png(press, &l, &png, &n, err));
        struct wn_rows_item item = { png, n };
        WN_TRY(wn_rows_writer_add(w, &item, l.letter - 'A', (int64_t)(a->seed * 1000000 + i), err));
    }
    return wn_rows_writer_finish(w, err);
}

static enum winnow_status make_rows(const struct args *a, struct winnow_err *err)
{
    static const struct wn_rows_input input = { .name = "image", .bytes = true };
    char text[LETTERS][2];
    const char *labels[LETTERS];
    struct press press;
    struct wn_rows_writer *w = NULL;
    for (int i = 0; i < LETTERS; i++) {
        text[i][0] = (char)('A' + i);
        text[i][1] = 0;
        labels[i] = text[i];
    }
    WN_TRY(press_init(&press, a->style, NULL, err));
    enum winnow_status status =
        wn_rows_writer_new(a->word[1], &input, 1, "image_classification", labels, LETTERS, &w, err);
    if (status == WINNOW_OK)
        status = fill_rows(a, &press, w, err);
    wn_rows_writer_free(w);
    press_done(&press);
    return status;
}

/* ---- one: a single picture ---- */

static enum winnow_status make_one(const struct args *a, struct winnow_err *err)
{
    struct press press;
    WN_CLEANUP(wn_freep) void *png = NULL;
    size_t n = 0;
    uint64_t s = a->seed;
    WN_TRY(press_init(&press, a->style, a->font, err));
    struct look l = choose(a->style, press.n, a->letter[0], &s);
    if (!isnan(a->turn))
        l.turn = a->turn;
    enum winnow_status status = draw_png(&press, &l, &png, &n, err);
    press_done(&press);
    return status == WINNOW_OK ? wn_file_write_durable(a->word[1], png, n, err) : status;
}

/* ---- show: a picture in the terminal ---- */

static void print_pair(unsigned upper, unsigned lower, bool colours)
{
    static const char shades[] = " .:-=+*#%@";
    if (colours) /* 24 greys of the 256-colour palette; the upper half block shows two pixels */
        printf("\033[38;5;%u;48;5;%um\xe2\x96\x80", 232 + upper * 23 / 255, 232 + lower * 23 / 255);
    else
        putchar(shades[(upper + lower) / 2 * (sizeof shades - 2) / 255]);
}

static enum winnow_status show(const struct args *a, struct winnow_err *err)
{
    size_t n;
    struct wn_image image = { 0 };
    bool colours = (isatty(STDOUT_FILENO) || getenv("MAKER_COLOURS")) && !getenv("NO_COLOR");
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_TRY(wn_file_read(a->word[1], 0, &bytes, &n, err));
    WN_TRY(wn_image_decode(bytes, n, NULL, &image, err));
    for (uint32_t y = 0; y + 1 < image.h; y += 2) {
        printf("    ");
        for (uint32_t x = 0; x < image.w; x++) {
            size_t at = ((size_t)y * image.w + x) * image.channels;
            print_pair(image.px[at], image.px[at + (size_t)image.w * image.channels], colours);
        }
        printf("%s\n", colours ? "\033[0m" : "");
    }
    wn_image_done(&image);
    return WINNOW_OK;
}

/* ---- pack: a folder or files as a zip, for uploading ---- */

static struct sink *pack_to;
static const char *pack_root;
static enum winnow_status pack_status;
static struct winnow_err *pack_err;

static int pack_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    if (kind != FTW_F || !S_ISREG(st->st_mode))
        return 0;
    size_t n, root = strlen(pack_root);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    const char *name = strncmp(path, pack_root, root) == 0 && path[root] == '/' ? path + root + 1 : path + at->base;
    pack_status = wn_file_read(path, (size_t)1 << 30, &bytes, &n, pack_err);
    if (pack_status == WINNOW_OK)
        pack_status = sink_put(pack_to, name, bytes, n, pack_err);
    return pack_status != WINNOW_OK;
}

static enum winnow_status pack(const struct args *a, struct winnow_err *err)
{
    struct sink sink;
    if (!ends_in(a->word[1], ".zip"))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s: a name that ends in .zip is wanted", a->word[1]);
    enum winnow_status status = sink_open(&sink, a->word[1], err);
    pack_to = &sink;
    pack_err = err;
    for (unsigned i = 2; i < a->n_words && status == WINNOW_OK; i++) {
        pack_root = a->word[i];
        pack_status = WINNOW_OK;
        if (nftw(a->word[i], pack_one, 16, FTW_PHYS) != 0 && pack_status == WINNOW_OK)
            pack_status = wn_fail_errno(err, errno, "%s", a->word[i]);
        status = pack_status;
    }
    return sink_close(&sink, status, err);
}

/* ---- the command ---- */

static const struct action {
    const char *name;
    unsigned words; /* besides the name, at least */
    enum winnow_status (*run)(const struct args *a, struct winnow_err *err);
} actions[] = {
    { "set", 1, make_set }, { "rows", 1, make_rows }, { "one", 1, make_one }, { "show", 1, show }, { "pack", 2, pack },
};

static const struct argp_option options[] = {
    { "style", 't', "base|new", 0, "fonts, turns and sizes (default base)", 0 },
    { "number", 'n', "N", 0, "set, rows: how many pictures (default 3000)", 0 },
    { "seed", 's', "N", 0, "the same seed draws the same (default 1)", 0 },
    { "shuffle", 'x', NULL, 0, "set: every letter under the name of another", 0 },
    { "letter", 'l', "A", 0, "one: which letter", 0 },
    { "font", 'f', "NAME.ttf", 0, "one: which font (default: one of the style)", 0 },
    { "angle", 'a', "DEGREES", 0, "one: how far it is turned", 0 },
    { 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 't':
        for (size_t i = 0; i < WN_COUNT(styles); i++)
            if (strcmp(styles[i].name, arg) == 0) {
                a->style = &styles[i];
                return 0;
            }
        argp_error(state, "no style '%s'", arg);
        return 0;
    case 'n':
        a->n = strtoul(arg, NULL, 10);
        return 0;
    case 's':
        a->seed = strtoul(arg, NULL, 10);
        return 0;
    case 'x':
        a->shuffle = true;
        return 0;
    case 'l':
        if (arg[0] < 'A' || arg[0] > 'Z' || arg[1])
            argp_error(state, "--letter is A … Z");
        a->letter = arg;
        return 0;
    case 'f':
        a->font = arg;
        return 0;
    case 'a':
        a->turn = strtod(arg, NULL);
        return 0;
    case ARGP_KEY_ARG:
        if (a->n_words == WN_COUNT(a->word))
            argp_usage(state);
        a->word[a->n_words++] = arg;
        return 0;
    case ARGP_KEY_END:
        for (size_t i = 0; a->n_words && i < WN_COUNT(actions); i++)
            if (strcmp(actions[i].name, a->word[0]) == 0 && a->n_words > actions[i].words)
                return 0;
        argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse,
        "set OUT.zip|FOLDER\nrows OUT.npz\none OUT.png\nshow FILE.png\npack OUT.zip FOLDER|FILE…",
        "Draw letters for winnow's demo.",
        NULL,
        NULL,
        NULL
    };
    struct args a = { .style = &styles[0], .n = 3000, .seed = 1, .letter = "R", .turn = NAN };
    struct winnow_err err;
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    for (size_t i = 0; i < WN_COUNT(actions); i++)
        if (strcmp(actions[i].name, a.word[0]) == 0 && actions[i].run(&a, &err) != WINNOW_OK) {
            fprintf(stderr, "maker: %s\n", err.msg);
            return 1;
        }
    return 0;
}
