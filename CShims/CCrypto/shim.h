/* OpenSSL 3: digests, MACs, key derivation and TLS 1.3 over memory BIOs. Macros that Swift cannot
   import have an inline twin here.

   OpenSSL 3 marks the direct SHA-256 and MD5 functions deprecated in favour of EVP. We keep them: the state is
   a plain struct (no allocation, no fetch, no lock), and 64 bytes take 94 ns instead of 233 (fetched
   EVP_Digest) or 575 (SHA256()); both reach the same SHA-NI code. */
#pragma once
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/md5.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
