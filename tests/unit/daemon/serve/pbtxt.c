/* pbtxt.c: a model's configuration as text and as JSON. */
#include "daemon/serve/pbtxt.h"

#include <criterion/criterion.h>
#include <string.h>

Test(pbtxt, json)
{
    struct wn_model_config c;
    struct winnow_err err;
    static const char good[] = "{\"name\": \"m\", \"max_batch_size\": 8, \"dynamic_batching\": {"
                               "\"max_queue_delay_microseconds\": \"100\", \"default_queue_policy\": {"
                               "\"max_queue_size\": 9, \"default_timeout_microseconds\": \"2000\"}}}";
    cr_assert_eq(wn_model_config_parse_json(good, strlen(good), &c, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(c.max_batch == 8 && c.max_wait_us == 100 && c.max_queue == 9 && c.timeout_us == 2000);
    cr_assert_eq(wn_model_config_parse_json("{}", 2, &c, &err), WINNOW_OK);
    cr_expect(c.max_batch == -1 && c.max_wait_us == -1 && c.max_queue == -1 && c.timeout_us == -1);
    static const char *const bad[] = {
        "",
        "[]",
        "{\"max_batch_size\": -1}",
        "{\"max_batch_size\": \"\"}",
        "{\"max_batch_size\": 1.5}",
        "{\"max_batch_size\": \"99999999999999999999\"}",
        "{\"max_batch_size\": 1, \"max_batch_size\": 2}",
        "{\"dynamic_batching\": {\"max_queue_delay_microseconds\": \"1 s\"}}",
    };
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_expect_eq(wn_model_config_parse_json(bad[i], strlen(bad[i]), &c, &err), WINNOW_E_MALFORMED, "%s", bad[i]);
}

Test(pbtxt, text)
{
    struct wn_model_config c;
    struct winnow_err err;
    static const char good[] = "name: \"m\" # a comment\nmax_batch_size: 8\ninput [ { name: \"x\" dims: [ 4 ] } ]\n"
                               "dynamic_batching {\n  max_queue_delay_microseconds: 100\n"
                               "  default_queue_policy: { max_queue_size: 9; default_timeout_microseconds: 2000 }\n}\n";
    cr_assert_eq(wn_model_config_parse(good, strlen(good), "f", &c, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(c.max_batch == 8 && c.max_wait_us == 100 && c.max_queue == 9 && c.timeout_us == 2000);
    cr_expect_eq(wn_model_config_parse("a: 1\nmax_batch_size: -1\n", 23, "f", &c, &err), WINNOW_E_MALFORMED);
    cr_expect(strncmp(err.msg, "f:2:", 4) == 0, "%s", err.msg);
}
