/* Decodes a column of a chunk (datacenter/history/chunk.py), as the functions there do with numpy. */
#include <stdint.h>
#include <string.h>

/* Reads unary quotients: the distance of each 1 bit from the previous one, less 1. */
static int read_quotients(const uint8_t *data, int64_t bytes, int64_t count, int64_t *values)
{
    int64_t count_read = 0, before = -1;
    for (int64_t offset = 0; offset < bytes && count_read < count; offset += 8) {
        uint64_t word = 0;
        memcpy(&word, data + offset, bytes - offset < 8 ? bytes - offset : 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        while (word && count_read < count) {
            int leading = __builtin_clzll(word);
            int64_t at = 8 * offset + leading;
            values[count_read++] = at - before - 1;
            before = at;
            word &= ~(UINT64_C(1) << (63 - leading));
        }
    }
    return count_read == count;
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
            for (int index = 0; index < 8; index++)
                rest[index] |= ((rows >> (8 * (7 - index))) & 0xFF) << low;
        }
        for (int index = 0; index < of_group; index++)
            values[first + index] = (int64_t)((uint64_t)values[first + index] << bits | rest[index]);
    }
}

/* Reads `count` values of `width` bytes from byte planes, the lowest bytes first. */
static void read_bytes(const uint8_t *data, int width, int64_t count, int64_t *values)
{
    memset(values, 0, 8 * count);
    for (int weight = 0; weight < width; weight++)
        for (int64_t index = 0; index < count; index++)
            values[index] |= (int64_t)((uint64_t)data[weight * count + index] << (8 * weight));
}

/* Decodes a column into `order` + `rest` values; `first` has the first `order` ones. `bits` is the length of the
 * remainders, -1 for byte planes. Returns the number of bytes read, or -1 if `data` is too short. */
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
    for (int64_t index = 0; index < rest; index++) {
        uint64_t one = (uint64_t)differences[index];
        differences[index] = ((int64_t)(one >> 1) ^ -(int64_t)(one & 1)) * divisor;
    }
    for (int level = order - 1; level >= 0; level--) {
        values[level] = first[level];
        for (int64_t index = level + 1; index < order + rest; index++)
            values[index] += values[index - 1];
    }
    return used;
}
