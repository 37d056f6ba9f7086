/* SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"

#include "bytes/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE = LPM_STREAM_PAGE_SIZE,
    DIGEST = LPM_STREAM_PAGE_DIGEST_SIZE,
    ENTRY = 8 + PAGE,
    OUTGOING_MAX = LPM_STREAM_VERIFY_PAGES * ENTRY,
    CHUNK_PAGES = 64, /* read at a time: stays in the cache between reading and hashing */
};

bool verify_init(Mover *mover)
{
    Verify *v = &mover->verify;
    v->pages = mover->config.memory_size / PAGE;
    v->buffer = malloc(CHUNK_PAGES * PAGE);
    v->outgoing = malloc(OUTGOING_MAX);
    return v->buffer && v->outgoing && page_digest_seed(&mover->config, &v->seed);
}

bool verify_start(Mover *mover)
{
    if (!(mover->features & LPM_STREAM_FEATURE_VERIFY) || mover->options.memory < 0 ||
        mover->verify.pages == 0)
        return mover_fail(mover, LPM_STREAM_ERR_COMMAND,
                          "VERIFY without the memory of the partition on both sides");
    if (atomic_load(&mover->verify.running))
        return mover_fail(mover, LPM_STREAM_ERR_COMMAND, "VERIFY while one is running");
    mover->verify.result = (LpmStreamVerified){0};
    mover->verify.next = 0;
    atomic_store(&mover->verify.running, true);
    queue_wake(&mover->to_peer);
    return true;
}

/* @count pages from @first on into the buffer. */
static bool read_pages(Mover *mover, uint64_t first, size_t count)
{
    uint8_t *at = mover->verify.buffer;
    size_t size = count * PAGE;
    off_t offset = (off_t)(first * PAGE);
    while (size > 0) {
        ssize_t n = pread(mover->options.memory, at, size, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return mover_fail(mover, LPM_STREAM_ERR_VERIFY,
                              "reading the partition's memory at page %llu failed: %s",
                              (unsigned long long)first,
                              n == 0 ? "the file is too short" : strerror(errno));
        at += n;
        size -= (size_t)n;
        offset += n;
    }
    return true;
}

bool verify_wants_to_send(Mover *mover)
{
    return atomic_load(&mover->verify.running) && mover->verify.next <= mover->verify.pages;
}

bool verify_send_hashes(Mover *mover)
{
    Verify *v = &mover->verify;
    LpmStreamMessage m = {0};
    if (v->next == v->pages) {
        v->next++; /* said */
        m.verified.compared = v->pages;
        return coder_send(mover, LPM_STREAM_VERIFY_END, &m);
    }
    uint8_t digests[LPM_STREAM_VERIFY_BATCH * DIGEST];
    uint64_t left = v->pages - v->next;
    size_t count = left < LPM_STREAM_VERIFY_BATCH ? (size_t)left : LPM_STREAM_VERIFY_BATCH;
    bool zero = true;
    for (size_t done = 0; done < count; done += CHUNK_PAGES) {
        size_t n = count - done < CHUNK_PAGES ? count - done : CHUNK_PAGES;
        if (!read_pages(mover, v->next + done, n))
            return false;
        for (size_t i = 0; i < n; i++)
            zero &= page_digest(v->buffer + i * PAGE, v->seed, digests + (done + i) * DIGEST);
    }
    m.hashes = (LpmStreamVerifyHashes){.first = v->next,
                                       .count = (uint32_t)count,
                                       .digests = digests,
                                       .size = zero ? 0 : (uint32_t)(count * DIGEST)};
    v->next += count;
    atomic_store(&v->done, v->next);
    return coder_send(mover, LPM_STREAM_VERIFY_HASHES, &m);
}

static bool flush_outgoing(Mover *mover)
{
    Verify *v = &mover->verify;
    if (v->outgoing_size == 0)
        return true;
    LpmStreamMessage m = {.pages = {.data = v->outgoing, .size = v->outgoing_size}};
    v->outgoing_size = 0;
    if (queue_push_wait(&mover->to_peer, LPM_STREAM_VERIFY_PAGES_DATA, &m))
        return true;
    return mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "no room for differing pages");
}

static bool send_page(Mover *mover, uint64_t number, const uint8_t *page)
{
    Verify *v = &mover->verify;
    if (v->result.listed < LPM_STREAM_DIFFERING_MAX)
        v->result.pages[v->result.listed++] = number;
    v->result.differing++;
    LpmByteWriter w = lpm_bytes_writer(v->outgoing + v->outgoing_size, ENTRY);
    lpm_bytes_put_u64(&w, number);
    lpm_bytes_put(&w, page, PAGE);
    v->outgoing_size += ENTRY;
    return v->outgoing_size < OUTGOING_MAX || flush_outgoing(mover);
}

/* The digests of the pages from @first on, as the target has them, against our own. */
static bool compare_chunk(Mover *mover, uint64_t first, size_t count, const uint8_t *theirs)
{
    Verify *v = &mover->verify;
    if (!read_pages(mover, first, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        static const uint8_t zero[DIGEST];
        uint8_t ours[DIGEST];
        page_digest(v->buffer + i * PAGE, v->seed, ours);
        if (memcmp(ours, theirs ? theirs + i * DIGEST : zero, DIGEST) != 0 &&
            !send_page(mover, first + i, v->buffer + i * PAGE))
            return false;
    }
    return true;
}

bool verify_compare(Mover *mover, const LpmStreamMessage *message)
{
    Verify *v = &mover->verify;
    const LpmStreamVerifyHashes *h = &message->hashes;
    if (mover->options.memory < 0 || h->first != v->result.compared ||
        h->first + h->count > v->pages)
        return mover_fail(mover, LPM_STREAM_ERR_VERIFY,
                          "the target asks for memory that the source does not have");
    for (size_t done = 0; done < h->count; done += CHUNK_PAGES) {
        size_t n = h->count - done < CHUNK_PAGES ? h->count - done : CHUNK_PAGES;
        if (!compare_chunk(mover, h->first + done, n, h->size ? h->digests + done * DIGEST : NULL))
            return false;
    }
    v->result.compared += h->count;
    atomic_store(&v->done, v->result.compared);
    return true;
}

/* Writes a page and reads it back: memory that does not keep what is written is no repaired memory.
 */
static bool repair_page(Mover *mover, uint64_t number, const uint8_t *page)
{
    Verify *v = &mover->verify;
    if (number >= v->pages)
        return mover_fail(mover, LPM_STREAM_ERR_VERIFY,
                          "the source sent a page beyond the memory's end");
    uint8_t back[PAGE];
    off_t at = (off_t)(number * PAGE);
    if (pwrite(mover->options.memory, page, PAGE, at) != PAGE ||
        pread(mover->options.memory, back, PAGE, at) != PAGE || memcmp(back, page, PAGE) != 0)
        return mover_fail(mover, LPM_STREAM_ERR_VERIFY,
                          "page %llu of the partition's memory cannot be repaired: %s",
                          (unsigned long long)number, strerror(errno));
    v->result.repaired++;
    return true;
}

bool verify_repair(Mover *mover, const LpmStreamMessage *message)
{
    if (!atomic_load(&mover->verify.running))
        return mover_fail(mover, LPM_STREAM_ERR_PROTOCOL, "pages that nobody asked for");
    LpmByteReader r = lpm_bytes_reader(message->pages.data, message->pages.size);
    while (lpm_bytes_left(&r) > 0) {
        uint64_t number = lpm_bytes_get_u64(&r);
        if (!repair_page(mover, number, lpm_bytes_borrow(&r, PAGE)))
            return false;
    }
    return true;
}

bool verify_end(Mover *mover, const LpmStreamMessage *message)
{
    Verify *v = &mover->verify;
    if (is_source(mover)) {
        if (v->result.compared != message->verified.compared || v->result.compared != v->pages)
            return mover_fail(mover, LPM_STREAM_ERR_VERIFY,
                              "the target has %llu pages of memory, the source %llu",
                              (unsigned long long)message->verified.compared,
                              (unsigned long long)v->pages);
        LpmStreamMessage m = {.verified = v->result};
        return flush_outgoing(mover) &&
               (queue_push_wait(&mover->to_peer, LPM_STREAM_VERIFY_END, &m) ||
                mover_fail(mover, LPM_STREAM_ERR_INTERNAL, "no room for a record"));
    }
    uint64_t repaired = v->result.repaired;
    if (!atomic_load(&v->running) || message->verified.compared != v->pages ||
        message->verified.differing != repaired)
        return mover_fail(mover, LPM_STREAM_ERR_VERIFY, "%llu pages differ, but %llu were repaired",
                          (unsigned long long)message->verified.differing,
                          (unsigned long long)repaired);
    LpmStreamMessage m = *message;
    m.verified.repaired = repaired;
    atomic_store(&v->running, false);
    mover_send(mover, LPM_STREAM_VERIFY_REPORT, &m);
    mover_tell(mover, LPM_STREAM_VERIFIED, &m);
    return true;
}

bool verify_report(Mover *mover, const LpmStreamMessage *message)
{
    mover->verify.result = (LpmStreamVerified){0};
    mover_tell(mover, LPM_STREAM_VERIFIED, message);
    return true;
}
