/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's multi interface on the main loop: it says which sockets and which moment it waits for.
 */
#include "post.h"

#include <curl/curl.h>
#include <glib-unix.h>

#define CONNECT_MAX_S 10
#define BODY_MAX      ((size_t)64 << 10)

struct LpmPoster {
    CURLM *multi;
    guint timer;
    GHashTable *sockets; /* descriptor -> id of its source */
};

struct LpmPost {
    LpmPoster *poster;
    CURL *easy;
    struct curl_slist *headers;
    size_t received;
    LpmPostDone done;
    void *data;
    char reason[CURL_ERROR_SIZE];
};

static void post_free(LpmPost *post)
{
    curl_multi_remove_handle(post->poster->multi, post->easy);
    curl_easy_cleanup(post->easy);
    curl_slist_free_all(post->headers);
    g_free(post);
}

static void finish(LpmPost *post, CURLcode code)
{
    LpmPostDone done = post->done;
    void *data = post->data;
    g_autofree char *reason = g_strdup(post->reason[0] ? post->reason : curl_easy_strerror(code));
    long status = 0;

    /* An answer that was too long to be read is an answer. */
    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && post->received > BODY_MAX)) {
        curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &status);
    }
    post_free(post);
    done(status, reason, data);
}

static void collect(LpmPoster *poster)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(poster->multi, &left))) {
        LpmPost *post = NULL;

        if (message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;

            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&post);
            finish(post, code);
        }
    }
}

/* --- what libcurl waits for --- */

static gboolean on_socket(int fd, GIOCondition condition, gpointer data)
{
    LpmPoster *poster = data;
    int events = (condition & G_IO_IN ? CURL_CSELECT_IN : 0) |
                 (condition & G_IO_OUT ? CURL_CSELECT_OUT : 0) |
                 (condition & (G_IO_ERR | G_IO_HUP) ? CURL_CSELECT_ERR : 0);
    int running;

    curl_multi_socket_action(poster->multi, fd, events, &running);
    collect(poster);
    return G_SOURCE_CONTINUE;
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *own)
{
    LpmPoster *poster = data;
    GIOCondition condition =
        (what & CURL_POLL_IN ? G_IO_IN : 0) | (what & CURL_POLL_OUT ? G_IO_OUT : 0);
    gpointer key = GINT_TO_POINTER(fd), old;

    (void)easy;
    (void)own;
    if (g_hash_table_steal_extended(poster->sockets, key, NULL, &old)) {
        g_source_remove(GPOINTER_TO_UINT(old));
    }
    if (what != CURL_POLL_REMOVE) {
        guint id = g_unix_fd_add(fd, condition | G_IO_ERR | G_IO_HUP, on_socket, poster);

        g_hash_table_insert(poster->sockets, key, GUINT_TO_POINTER(id));
    }
    return 0;
}

static gboolean on_timer(gpointer data)
{
    LpmPoster *poster = data;
    int running;

    poster->timer = 0;
    curl_multi_socket_action(poster->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(poster);
    return G_SOURCE_REMOVE;
}

static int set_timer(CURLM *multi, long timeout_ms, void *data)
{
    LpmPoster *poster = data;

    (void)multi;
    g_clear_handle_id(&poster->timer, g_source_remove);
    if (timeout_ms >= 0) {
        poster->timer = g_timeout_add((guint)timeout_ms, on_timer, poster);
    }
    return 0;
}

LpmPoster *lpm_poster_new(void)
{
    LpmPoster *poster = g_new0(LpmPoster, 1);

    curl_global_init(CURL_GLOBAL_DEFAULT);
    poster->multi = curl_multi_init();
    if (!poster->multi) {
        g_error("curl_multi_init() has no memory");
    }
    poster->sockets = g_hash_table_new(NULL, NULL);
    curl_multi_setopt(poster->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(poster->multi, CURLMOPT_SOCKETDATA, poster);
    curl_multi_setopt(poster->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(poster->multi, CURLMOPT_TIMERDATA, poster);
    return poster;
}

void lpm_poster_free(LpmPoster *poster)
{
    GHashTableIter iter;
    gpointer id;

    if (!poster) {
        return;
    }
    curl_multi_cleanup(poster->multi); /* closes connections that were kept: their sources go */
    g_clear_handle_id(&poster->timer, g_source_remove);
    g_hash_table_iter_init(&iter, poster->sockets);
    while (g_hash_table_iter_next(&iter, NULL, &id)) {
        g_source_remove(GPOINTER_TO_UINT(id));
    }
    g_hash_table_unref(poster->sockets);
    g_free(poster);
}

/* --- posts --- */

static size_t throw_away(char *bytes, size_t size, size_t count, void *data)
{
    LpmPost *post = data;

    (void)bytes;
    post->received += size * count;
    return post->received > BODY_MAX ? 0 : size * count;
}

static void set_options(LpmPost *post, const LpmPostRequest *request)
{
    CURL *easy = post->easy;

    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A try that ends does not wait for a thread of libcurl that still asks for the name: with a
     * name server that does not answer that holds up the main loop for many seconds. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "OpenLPM/" LPM_VERSION);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)MIN(request->timeout_s, CONNECT_MAX_S));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)request->timeout_s);
    if (request->ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
    curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, throw_away);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, post->reason);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, post);
}

LpmPost *lpm_post_start(LpmPoster *poster, const LpmPostRequest *request, LpmPostDone done,
                        void *data)
{
    LpmPost *post = g_new0(LpmPost, 1);

    post->poster = poster;
    post->done = done;
    post->data = data;
    post->easy = curl_easy_init();
    if (!post->easy) {
        g_error("curl_easy_init() has no memory");
    }
    post->headers = curl_slist_append(NULL, "Expect:");
    for (const char *const *header = request->headers; *header; header++) {
        post->headers = curl_slist_append(post->headers, *header);
    }
    set_options(post, request);
    curl_multi_add_handle(poster->multi, post->easy); /* begins with the timer that it asks for */
    return post;
}

void lpm_post_cancel(LpmPost *post)
{
    if (post) {
        post_free(post);
    }
}
