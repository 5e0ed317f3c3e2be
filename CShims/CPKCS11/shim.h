/* PKCS#11 2.40 as p11-kit declares it: types and numbers alone. Nothing is linked: the functions are those of the library
   that an operator names, in the list that it hands out. */
#pragma once
#define CRYPTOKI_GNU 1
#include <p11-kit-1/p11-kit/pkcs11.h>
