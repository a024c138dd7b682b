/* Decodes a column of a chunk (datacenter/history/chunk.py), as the functions there do with numpy. */
#include <stdint.h>
#include <string.h>

/* The numbers of the ones in a sequence of bits, less that of the one before, less 1: unary quotients. */
static int read_quotients(const uint8_t *data, int64_t bytes, int64_t count, int64_t *values)
{
    int64_t found = 0, before = -1;
    for (int64_t place = 0; place < bytes && found < count; place += 8) {
        uint64_t word = 0;
        memcpy(&word, data + place, bytes - place < 8 ? bytes - place : 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        while (word && found < count) {
            int leading = __builtin_clzll(word);
            int64_t at = 8 * place + leading;
            values[found++] = at - before - 1;
            before = at;
            word &= ~(UINT64_C(1) << (63 - leading));
        }
    }
    return found == count;
}

/* Exchanges rows and columns of 8 bytes of 8 bits. Source: Warren, Hacker's Delight, 2nd edition, section 7-3. */
static uint64_t transposed(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & UINT64_C(0x00AA00AA00AA00AA);
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & UINT64_C(0x0000CCCC0000CCCC);
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & UINT64_C(0x00000000F0F0F0F0);
    return x ^ t ^ (t << 28);
}

/* Adds `bits` bits below each quotient; the bits of equal weight of all values are one plane. */
static void add_remainders(const uint8_t *planes, int bits, int64_t count, int64_t *values)
{
    int64_t plane_bytes = (count + 7) / 8;
    for (int64_t group = 0; group < plane_bytes; group++) {
        int64_t first = 8 * group, of_group = count - first < 8 ? count - first : 8;
        uint64_t rest[8] = {0};
        for (int low = 0; low < bits; low += 8) {
            uint64_t rows = 0;
            for (int bit = low; bit < bits && bit < low + 8; bit++)
                rows |= (uint64_t)planes[bit * plane_bytes + group] << (8 * (bit - low));
            rows = transposed(rows);
            for (int place = 0; place < 8; place++)
                rest[place] |= ((rows >> (8 * (7 - place))) & 0xFF) << low;
        }
        for (int place = 0; place < of_group; place++)
            values[first + place] = (int64_t)((uint64_t)values[first + place] << bits | rest[place]);
    }
}

/* Reads `count` values of `width` bytes; the bytes of equal weight of all values are together. */
static void read_bytes(const uint8_t *data, int width, int64_t count, int64_t *values)
{
    memset(values, 0, 8 * count);
    for (int weight = 0; weight < width; weight++)
        for (int64_t place = 0; place < count; place++)
            values[place] |= (int64_t)((uint64_t)data[weight * count + place] << (8 * weight));
}

/* Decodes a column into `order` + `rest` values, of which `first` has the first ones. `bits` are those of the remainders,
 * -1 for bytes by weight. Returns the number of bytes that it takes, or -1 if there are fewer. */
static int64_t decode_column(const uint8_t *data, int64_t size, int bits, int64_t width, int64_t rest, int order,
                             int64_t divisor, const int64_t *first, int64_t *values)
{
    int64_t *differences = values + order;
    int64_t used = bits < 0 ? rest * width : width + (rest + 7) / 8 * bits;
    if (width < 0 || (bits < 0 && width > 8) || used > size)
        return -1;
    if (bits < 0) {
        read_bytes(data, (int)width, rest, differences);
    } else {
        if (!read_quotients(data, width, rest, differences))
            return -1;
        add_remainders(data + width, bits, rest, differences);
    }
    for (int64_t place = 0; place < rest; place++) {
        uint64_t one = (uint64_t)differences[place];
        differences[place] = ((int64_t)(one >> 1) ^ -(int64_t)(one & 1)) * divisor;
    }
    for (int level = order - 1; level >= 0; level--) {
        values[level] = first[level];
        for (int64_t place = level + 1; place < order + rest; place++)
            values[place] += values[place - 1];
    }
    return used;
}
