/* Count the executed instructions of an AArch64 program: a plugin for QEMU's user mode (TCG), plugin API version 1.
 *
 *     qemu-aarch64 -plugin file=counter.so,out=counts.json program
 *
 * Counts, by region: instructions by class, and data accesses with the misses of an LRU L1 data cache in front of an LRU L2
 * that holds only data. The initial region is 0. The instruction `movz xzr, #id` starts region id; it has no other effect and
 * no compiler emits it. This instruction is counted as an entry of its region and not as an instruction.
 *
 * Arguments besides `out`: line_bytes, l1_bytes, l1_ways, l2_bytes, l2_ways.
 *
 * QEMU splits an access of more than 8 bytes into several accesses of at most 8 bytes, which are counted; misses do not depend
 * on the split. An access that crosses a line touches both lines. Writes allocate; write-backs are not modelled. Counts of a
 * program with several threads mix, so the output includes the number of threads. Classes are decoded for Armv8.0.
 *
 * The declarations below are the used subset of the documented plugin interface; QEMU's headers are not needed.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum { CB_NO_REGS = 0, MEM_READ_WRITE = 3 };

void qemu_plugin_register_vcpu_init_cb(uint64_t id, void (*cb)(uint64_t id, unsigned vcpu));
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned vcpu, void *data), int flags,
                                          void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned vcpu, void *data),
                                            int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                      void (*cb)(unsigned vcpu, uint32_t info, uint64_t vaddr, void *data), int flags,
                                      int rw, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*cb)(uint64_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
unsigned qemu_plugin_mem_size_shift(uint32_t info);

EXPORT int qemu_plugin_version = 1;

/* ---- classes of instructions ---- */

enum kind {
    SCALAR_INT,   /* integer arithmetic, logic, moves, addresses */
    INT_MUL,      /* integer multiplication and division */
    BRANCH,       /* branches, taken or not, calls and returns */
    SCALAR_LOAD,  /* to general registers */
    SCALAR_STORE, /* from general registers */
    VECTOR_LOAD,  /* to SIMD and floating-point registers */
    VECTOR_STORE, /* from SIMD and floating-point registers */
    SIMD,      /* SIMD and floating-point arithmetic and moves */
    TILE_PROCESS, /* ALPINE's CM_PROCESS, or its replacement, hint #96 */
    TILE_QUEUE,   /* CM_QUEUE, or hint #104 */
    TILE_DEQUEUE, /* CM_DEQUEUE, or hint #112 */
    TILE_PARAM,   /* the tile's parameter read and write, or hint #120 */
    OTHER,        /* system, hints, barriers, prefetches, unknown instructions */
    N_CLASSES
};

static const char *const CLASS_NAMES[N_CLASSES] = {
    "scalar_int",   "int_mul", "branch",       "scalar_load", "scalar_store", "vector_load", "vector_store",
    "simd",      "tile_process", "tile_queue", "tile_dequeue", "tile_param", "other",
};

static uint32_t bits(uint32_t word, int high, int low) { return (word >> low) & ((2u << (high - low)) - 1); }

static enum kind classify_load_store(uint32_t word)
{
    bool vector = bits(word, 26, 26);
    enum kind load = vector ? VECTOR_LOAD : SCALAR_LOAD, store = vector ? VECTOR_STORE : SCALAR_STORE;
    switch (bits(word, 29, 28)) {
    case 0: /* SIMD structures; exclusive and ordered */
    case 2: /* pairs */
        return bits(word, 22, 22) ? load : store;
    case 1: /* literals; of a general register, size 3 is a prefetch */
        return !vector && bits(word, 31, 30) == 3 ? OTHER : load;
    default: /* one register; of a general one, size 3 with opcode 2 is a prefetch */
        if (vector)
            return bits(word, 22, 22) ? load : store;
        if (bits(word, 31, 30) == 3 && bits(word, 23, 22) == 2)
            return OTHER;
        return bits(word, 23, 22) ? load : store;
    }
}

static enum kind classify_register(uint32_t word)
{
    bool three_sources = bits(word, 28, 24) == 0x1b;
    bool divides = bits(word, 30, 30) == 0 && bits(word, 28, 21) == 0xd6 && bits(word, 15, 11) == 1;
    return three_sources || divides ? INT_MUL : SCALAR_INT;
}

static enum kind classify(uint32_t word)
{
    switch (bits(word, 28, 25)) {
    case 0x8: case 0x9:
        return SCALAR_INT;
    case 0xa: case 0xb: {
        if ((word & 0xfffff0ff) == 0xd503201f && bits(word, 11, 8) >= 12) /* hints 96, 104, 112 and 120 */
            return (enum kind)(TILE_PROCESS + (bits(word, 11, 8) - 12));
        uint32_t top = bits(word, 31, 24);
        return top == 0xd4 || top == 0xd5 ? OTHER : BRANCH;
    }
    case 0x4: case 0x6: case 0xc: case 0xe:
        return classify_load_store(word);
    case 0x5: case 0xd:
        return classify_register(word);
    case 0x7: case 0xf:
        return SIMD;
    default: /* reserved in A64, partly used by ALPINE: the opcode is in the upper 11 bits, bit 15 is the direction */
        switch (bits(word, 31, 21)) {
        case 0x008: return TILE_PROCESS;
        case 0x108: return bits(word, 15, 15) ? TILE_QUEUE : TILE_DEQUEUE;
        case 0x208: return TILE_PARAM;
        default: return OTHER;
        }
    }
}

/* ---- caches ---- */

struct cache {
    uint64_t n_sets, n_ways;
    uint64_t *lines; /* n_sets rows, the most recently used line first; entries are line + 1, 0 is empty */
};

static struct cache l1, l2;
static unsigned line_shift;

static bool touch(struct cache *cache, uint64_t line)
{
    uint64_t *row = cache->lines + line % cache->n_sets * cache->n_ways, tag = line + 1, way = 0;
    if (row[0] == tag)
        return true;
    while (way < cache->n_ways && row[way] != tag)
        way++;
    bool hit = way < cache->n_ways;
    memmove(row + 1, row, (hit ? way : cache->n_ways - 1) * sizeof *row);
    row[0] = tag;
    return hit;
}

/* ---- regions ---- */

struct region {
    uint64_t instructions[N_CLASSES], entries, accesses, l1_misses, l2_misses;
};

static struct region *regions[1 << 16];
static struct region *now;
static unsigned n_threads;
static char *out_path;

static struct region *find_region(unsigned id)
{
    if (!regions[id])
        regions[id] = calloc(1, sizeof(struct region));
    if (!regions[id])
        abort();
    return regions[id];
}

static void enter_region(unsigned vcpu, void *region)
{
    (void)vcpu;
    now = region;
    now->entries++;
}

/* A run of instructions without a region mark; if the first instruction executes, all do. */
struct run {
    uint32_t n[N_CLASSES];
};

static void add_run(unsigned vcpu, void *data)
{
    const struct run *run = data;
    (void)vcpu;
    for (int i = 0; i < N_CLASSES; i++)
        now->instructions[i] += run->n[i];
}

static void touch_memory(unsigned vcpu, uint32_t info, uint64_t address, void *data)
{
    (void)vcpu, (void)data;
    uint64_t last = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> line_shift;
    now->accesses++;
    for (uint64_t line = address >> line_shift; line <= last; line++)
        if (!touch(&l1, line)) {
            now->l1_misses++;
            now->l2_misses += !touch(&l2, line);
        }
}

/* ---- instrumentation ---- */

static uint32_t load_word(const struct qemu_plugin_insn *insn)
{
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
    return word;
}

static bool is_mark(uint32_t word) { return (word & 0xffe0001f) == 0xd280001f; }

static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    struct run *run = NULL;
    (void)id;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint32_t word = load_word(insn);
        if (is_mark(word)) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, enter_region, CB_NO_REGS, find_region(bits(word, 20, 5)));
            run = NULL;
            continue;
        }
        if (!run) { /* freed by nobody: the translation may live until the program ends */
            run = calloc(1, sizeof *run);
            if (!run)
                abort();
            if (i == 0)
                qemu_plugin_register_vcpu_tb_exec_cb(tb, add_run, CB_NO_REGS, run);
            else
                qemu_plugin_register_vcpu_insn_exec_cb(insn, add_run, CB_NO_REGS, run);
        }
        enum kind kind = classify(word);
        run->n[kind]++;
        if (kind >= SCALAR_LOAD && kind <= VECTOR_STORE)
            qemu_plugin_register_vcpu_mem_cb(insn, touch_memory, CB_NO_REGS, MEM_READ_WRITE, NULL);
    }
}

static void count_thread(uint64_t id, unsigned vcpu)
{
    (void)id, (void)vcpu;
    n_threads++;
}

static void write_counts(uint64_t id, void *data)
{
    (void)id, (void)data;
    FILE *file = fopen(out_path, "w");
    if (!file) {
        perror(out_path);
        return;
    }
    const char *comma = "";
    fprintf(file, "{\"version\": 1, \"threads\": %u, \"regions\": {", n_threads);
    for (unsigned i = 0; i < 1 << 16; i++) {
        const struct region *region = regions[i];
        if (!region)
            continue;
        fprintf(file, "%s\n\"%u\": {\"entries\": %" PRIu64, comma, i, region->entries);
        for (int k = 0; k < N_CLASSES; k++)
            fprintf(file, ", \"%s\": %" PRIu64, CLASS_NAMES[k], region->instructions[k]);
        fprintf(file, ", \"accesses\": %" PRIu64 ", \"l1_misses\": %" PRIu64 ", \"l2_misses\": %" PRIu64 "}",
                region->accesses, region->l1_misses, region->l2_misses);
        comma = ",";
    }
    fprintf(file, "\n}}\n");
    fclose(file);
}

/* ---- arguments ---- */

static bool make_cache(struct cache *cache, uint64_t bytes, uint64_t ways)
{
    uint64_t line_bytes = UINT64_C(1) << line_shift;
    if (ways == 0 || bytes == 0 || bytes % (line_bytes * ways))
        return false;
    cache->n_ways = ways;
    cache->n_sets = bytes / line_bytes / ways;
    cache->lines = calloc(bytes / line_bytes, sizeof *cache->lines);
    return cache->lines != NULL;
}

EXPORT int qemu_plugin_install(uint64_t id, const qemu_info_t *info, int argc, char **argv)
{
    static const char *const names[] = {"line_bytes", "l1_bytes", "l1_ways", "l2_bytes", "l2_ways"};
    uint64_t values[] = {64, 32768, 4, 1048576, 16};
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *equals = strchr(argv[i], '='), *end = equals;
        size_t length = equals ? (size_t)(equals - argv[i]) : 0;
        bool known = false;
        if (equals && length == 3 && !strncmp(argv[i], "out", 3)) {
            out_path = strdup(equals + 1);
            continue;
        }
        for (size_t k = 0; equals && k < sizeof values / sizeof *values; k++)
            if (strlen(names[k]) == length && !strncmp(argv[i], names[k], length)) {
                values[k] = strtoull(equals + 1, &end, 10);
                known = end != equals + 1 && !*end;
            }
        if (!known) {
            fprintf(stderr, "counter: argument %s is not understood\n", argv[i]);
            return -1;
        }
    }
    while (UINT64_C(1) << line_shift < values[0])
        line_shift++;
    if (!out_path || UINT64_C(1) << line_shift != values[0] || !make_cache(&l1, values[1], values[2]) ||
        !make_cache(&l2, values[3], values[4])) {
        fprintf(stderr, "counter: expected out=FILE, a line of 2^n bytes, and caches of whole sets\n");
        return -1;
    }
    now = find_region(0);
    qemu_plugin_register_vcpu_init_cb(id, count_thread);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, write_counts, NULL);
    return 0;
}
