/* SPDX-License-Identifier: Apache-2.0 */
/* Private to lib/tls: what a set of credentials is made of. */
#pragma once

#include "tls/certificate.h"
#include "tls/tls.h"

struct LpmTlsCredentials {
    char *directory; /* NULL: anonymous */
    char *paths[3];  /* ca.pem, cert.pem, key.pem; NULL when anonymous */
    TlsTrust *trust;
    TlsIdentity identity;         /* empty when anonymous */
    int64_t ends_us;              /* 0 when anonymous */
    GTlsCertificate *certificate; /* with its key; NULL when anonymous */
};
