/* SPDX-License-Identifier: Apache-2.0 */
/* The affinity score over made-up servers. */
#include "checks/affinity.h"

typedef struct {
    const char *name;
    size_t n;
    LpmNode nodes[4];
    LpmAffinityNeed need;
    int score;
} Case;

#define NEAR {10, 20}, 2
#define FAR  {20, 10}, 2

static const Case cases[] = {
    {"one node", 1, {{4096, 8, {10}, 1}}, {1024, 4}, 100},
    {"one node that is full", 1, {{10, 8, {10}, 1}}, {1024, 4}, 100},
    {"fits on the second", 2, {{100, 4, NEAR}, {2048, 4, FAR}}, {1024, 4}, 100},
    {"memory on both", 2, {{512, 4, NEAR}, {512, 4, FAR}}, {1024, 4}, 67},
    {"three quarters on one", 2, {{768, 4, NEAR}, {256, 4, FAR}}, {1024, 4}, 80},
    {"processors on both", 2, {{2048, 2, NEAR}, {2048, 2, FAR}}, {1024, 4}, 67},
    {"both on both", 2, {{512, 2, NEAR}, {512, 2, FAR}}, {1024, 4}, 67},
    {"memory and processors apart", 2, {{1, 4, NEAR}, {1024, 0, FAR}}, {1024, 4}, 50},
    {"more processors than there are", 2, {{2048, 2, NEAR}, {2048, 0, FAR}}, {1024, 8}, 100},
    {"does not fit", 2, {{256, 4, NEAR}, {256, 4, FAR}}, {1024, 4}, 0},
    {"no distances are told", 2, {{512, 4}, {512, 4}}, {1024, 4}, 67},
    {"the near node first",
     3,
     {{512, 4, {10, 40, 12}, 3}, {2048, 0, {40, 10, 40}, 3}, {512, 0, {12, 40, 10}, 3}},
     {1024, 4},
     91},
    {"nothing is needed", 2, {{512, 4, NEAR}, {512, 4, FAR}}, {0, 0}, 0},
};

static void test_case(const void *data)
{
    const Case *c = data;

    g_assert_cmpint(lpm_affinity_score(c->nodes, c->n, &c->need), ==, c->score);
}

/* More room never makes it worse. */
static void test_more_room(void)
{
    LpmNode nodes[2] = {{0, 4, NEAR}, {2048, 4, FAR}};
    LpmAffinityNeed need = {2048, 8};
    int before = 0;

    for (int64_t mib = 0; mib <= 4096; mib += 64) {
        int score;

        nodes[0].free_mib = mib;
        score = lpm_affinity_score(nodes, 2, &need);
        g_assert_cmpint(score, >=, before);
        g_assert_cmpint(score, <=, 100);
        before = score;
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/affinity/%s", cases[i].name);

        g_test_add_data_func(path, &cases[i], test_case);
    }
    g_test_add_func("/affinity/more-room", test_more_room);
    return g_test_run();
}
