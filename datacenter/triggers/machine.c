/* Executes a program of triggers: instructions on rows of integers, in which each instrument has one element.
 *
 * run_one() evaluates one report of one instrument. run_many() evaluates the reports of LANES instruments together.
 * Both are the same code, compiled for rows of 1 and of LANES elements.
 *
 * Every value that a term or a condition computes stays within 64 bits (datacenter/triggers/terms/term.py).
 */
#include <stddef.h>
#include <stdint.h>

#define LANES 16
#define NO_INPUT (-((int64_t)1 << 62)) /* the value of an input that a report does not have */

enum operation {
    ADD, SUBTRACT, MULTIPLY, DIVIDE, SHIFT, NEGATE, LEAST, GREATEST,
    LESS, AT_MOST, EQUAL, DIFFERENT, AND, OR, NOT, CHOOSE, COPY, GUARD, HOLD, DECIDE
};

typedef struct {
    int32_t operation, to, a, b, c, d; /* rows; `d` of GUARD and HOLD is an instruction */
} instruction;

typedef struct {
    const instruction *code;
    int32_t count;
    int32_t now, exists;                 /* the time of the report; 1 where there is one */
    int32_t inputs;                      /* their number */
    int64_t input_max;                   /* the limit of their absolute values */
    int32_t first_input, first_presence; /* a row for each input, and for whether the report has it */
    int32_t bases, first_base;           /* a row for each percentile of the installed base, for the day of the report */
    int32_t found;                       /* the first row of run_one()'s results */
} machine;

typedef struct {
    int32_t lane, step, since, is_active;
} transition;

static inline int64_t floor_divided(int64_t a, int64_t b)
{
    int64_t quotient = a / b, remainder = a % b;
    return quotient - (remainder != 0 && (remainder < 0) != (b < 0));
}

#define EACH(expression) \
    _Pragma("GCC ivdep") _Pragma("GCC unroll 1") \
    for (int i = 0; i < lanes; i++) \
        to[i] = (expression); \
    break

/* Executes all instructions on the rows `r`. Transitions go to `rows` (of one instrument) or `many`; returns their number. */
static inline __attribute__((always_inline)) int
execute(const machine *m, int64_t *r, const int lanes, int64_t *rows, transition *many, int step)
{
    const int64_t *exists = r + (ptrdiff_t)m->exists * lanes, *now = r + (ptrdiff_t)m->now * lanes;
    int found = 0;
    for (int index = 0; index < m->count; index++) {
        const instruction *one = m->code + index;
        int64_t *to = r + (ptrdiff_t)one->to * lanes;
        int64_t *a = r + (ptrdiff_t)one->a * lanes, *b = r + (ptrdiff_t)one->b * lanes;
        const int64_t *c = r + (ptrdiff_t)one->c * lanes;
        switch (one->operation) {
        case ADD: EACH(a[i] + b[i]);
        case SUBTRACT: EACH(a[i] - b[i]);
        case MULTIPLY: EACH(a[i] * b[i]);
        case DIVIDE: EACH(floor_divided(a[i], b[i]));
        case SHIFT: EACH(a[i] >> b[i]);
        case NEGATE: EACH(-a[i]);
        case LEAST: EACH(a[i] < b[i] ? a[i] : b[i]);
        case GREATEST: EACH(a[i] > b[i] ? a[i] : b[i]);
        case LESS: EACH(a[i] < b[i]);
        case AT_MOST: EACH(a[i] <= b[i]);
        case EQUAL: EACH(a[i] == b[i]);
        case DIFFERENT: EACH(a[i] != b[i]);
        case AND: EACH(a[i] & b[i]);
        case OR: EACH(a[i] | b[i]);
        case NOT: EACH(!a[i]);
        case CHOOSE: EACH(a[i] ? b[i] : c[i]);
        case COPY: EACH(a[i]);
        case GUARD: { /* continue for the instruments for which `a` is true; at `d` if there is none */
            int64_t any = 0;
            for (int i = 0; i < lanes; i++)
                any |= to[i] = a[i] & exists[i];
            if (!any)
                index = one->d - 1;
            break;
        }
        case HOLD: { /* continue for those whose condition `a` holds, or has held since `b`; at `d` if there is none */
            int64_t any = 0;
            for (int i = 0; i < lanes; i++)
                any |= to[i] = (a[i] | (b[i] != 0)) & exists[i];
            if (!any)
                index = one->d - 1;
            break;
        }
        case DECIDE: { /* `to` holds; `a` since when, and in the next row whether the alert is active; `b` fires, `c` clears */
            int64_t *since = a, *active = a + lanes;
            const int64_t *lasts = r + (ptrdiff_t)one->d * lanes;
            for (int i = 0; i < lanes; i++) {
                if (!to[i])
                    continue;
                int is_active = -1;
                if (active[i]) {
                    if (c[i])
                        active[i] = since[i] = is_active = 0;
                } else if (b[i]) {
                    if (!since[i])
                        since[i] = now[i] + 1;
                    if (now[i] + 1 - since[i] >= lasts[i])
                        active[i] = is_active = 1;
                } else {
                    since[i] = 0;
                }
                if (is_active >= 0) {
                    if (lanes == 1)
                        rows[found++] = 2 * (int64_t)one->a + is_active;
                    else
                        many[found++] = (transition){i, step, one->a, is_active};
                }
            }
            break;
        }
        default: __builtin_unreachable();
        }
    }
    return found;
}

static inline int64_t limited(int64_t x, int64_t most)
{
    return x > most ? most : x < -most ? -most : x;
}

/* Evaluates a report, whose inputs are in their rows, at the time `now`. Returns the number of transitions; each has a
 * row from `found` on: twice the row of its trigger's `since`, plus 1 if the alert begins. */
static int run_one(const machine *m, int64_t *r, int64_t now)
{
    int64_t *x = r + m->first_input, *present = r + m->first_presence;
    for (int k = 0; k < m->inputs; k++) {
        present[k] = x[k] != NO_INPUT;
        x[k] = limited(x[k], m->input_max);
    }
    r[m->now] = now;
    return execute(m, r, 1, r + m->found, NULL, 0);
}

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)
__attribute__((target_clones("avx2", "default")))
#endif
static int execute_many(const machine *m, int64_t *r, transition *found, int step)
{
    return execute(m, r, LANES, NULL, found, step);
}

/* Evaluates the reports of LANES instruments from index `step` to `steps`, exclusive; each instrument has `lengths`
 * reports, with their times in `at_ms`. `values` and `present` have for each input a column for each instrument:
 * `values` is NULL if its reports lack the input, `present` is NULL if all have it. `bases` likewise has the
 * percentiles. Returns the index of the first report that was not evaluated: less than `steps` if `found` might not
 * have the room that the next step needs (`room_of_step`). */
static int run_many(const machine *m, int64_t *r, int step, int steps, const int32_t *lengths,
                    const int64_t *const *at_ms, const int64_t *const *values, const uint8_t *const *present,
                    const int64_t *const *bases, transition *found, int room, int room_of_step, int *count)
{
    int64_t *now = r + (ptrdiff_t)m->now * LANES, *exists = r + (ptrdiff_t)m->exists * LANES;
    *count = 0;
    for (; step < steps && room - *count >= room_of_step; step++) {
        for (int i = 0; i < LANES; i++) {
            exists[i] = step < lengths[i];
            if (exists[i] && at_ms[i][step] > now[i])
                now[i] = at_ms[i][step];
        }
        for (int k = 0; k < m->inputs; k++) {
            int64_t *x = r + (ptrdiff_t)(m->first_input + k) * LANES;
            int64_t *has = r + (ptrdiff_t)(m->first_presence + k) * LANES;
            for (int i = 0; i < LANES; i++) {
                const int64_t *column = values[k * LANES + i];
                const uint8_t *mask = present[k * LANES + i];
                has[i] = exists[i] && column && (!mask || mask[step]);
                if (has[i])
                    x[i] = limited(column[step], m->input_max);
            }
        }
        for (int k = 0; k < m->bases; k++)
            for (int i = 0; i < LANES; i++)
                if (exists[i])
                    r[(ptrdiff_t)(m->first_base + k) * LANES + i] = bases[k * LANES + i][step];
        *count += execute_many(m, r, found + *count, step);
    }
    return step;
}
