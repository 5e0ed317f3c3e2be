/* A PKCS#11 module that hands everything on to SoftHSM, but for what CAIRN_FAULT says. Tests build it:
   cc -shared -fPIC -o faulty.so faulty-token.c */
#define CRYPTOKI_GNU 1
#include <dlfcn.h>
#include <p11-kit-1/p11-kit/pkcs11.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ck_function_list *real;
static struct ck_function_list list;
/* Read by tests. */
int logins;

static int is(const char *name) {
  const char *fault = getenv("CAIRN_FAULT");
  return fault && strcmp(fault, name) == 0;
}

static ck_rv_t login(ck_session_handle_t session, ck_user_type_t user, unsigned char *pin, unsigned long count) {
  logins++;
  /* As one that is out of reach: until the file is gone. */
  const char *fault = getenv("CAIRN_FAULT");
  if (fault && strncmp(fault, "hang ", 5) == 0) while (access(fault + 5, F_OK) == 0) usleep(1000);
  if (is("locked")) return CKR_PIN_LOCKED;
  return real->C_Login(session, user, pin, count);
}

static ck_rv_t slots(unsigned char present, ck_slot_id_t *found, unsigned long *count) {
  ck_rv_t code = real->C_GetSlotList(present, found, count);
  if (is("many slots")) *count = ~0UL;
  return code;
}

static ck_rv_t mechanism(ck_slot_id_t slot, ck_mechanism_type_t type, struct ck_mechanism_info *info) {
  if (is("no gcm")) return CKR_MECHANISM_INVALID;
  return real->C_GetMechanismInfo(slot, type, info);
}

static ck_rv_t find_init(ck_session_handle_t session, struct ck_attribute *wanted, unsigned long count) {
  if (is("removed once")) {
    unsetenv("CAIRN_FAULT");
    return CKR_DEVICE_REMOVED;
  }
  if (is("removed")) return CKR_DEVICE_REMOVED;
  return real->C_FindObjectsInit(session, wanted, count);
}

static ck_rv_t find(ck_session_handle_t session, ck_object_handle_t *found, unsigned long room, unsigned long *count) {
  ck_rv_t code = real->C_FindObjects(session, found, room, count);
  if (is("many keys")) *count = ~0UL;
  return code;
}

static ck_rv_t seal(ck_session_handle_t session, unsigned char *plain, unsigned long plain_count, unsigned char *out,
                    unsigned long *count) {
  ck_rv_t code = real->C_Encrypt(session, plain, plain_count, out, count);
  if (is("short")) *count = 3;
  if (is("long")) *count = ~0UL;
  if (is("wrong")) out[0] ^= 1;
  return code;
}

static ck_rv_t open_sealed(ck_session_handle_t session, unsigned char *sealed, unsigned long sealed_count,
                           unsigned char *out, unsigned long *count) {
  ck_rv_t code = real->C_Decrypt(session, sealed, sealed_count, out, count);
  if (is("long")) *count = ~0UL;
  return code;
}

ck_rv_t C_GetFunctionList(struct ck_function_list **out) {
  void *library = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) return CKR_GENERAL_ERROR;
  CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
  if (get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
  list = *real;
  list.C_Login = login;
  list.C_GetSlotList = slots;
  list.C_GetMechanismInfo = mechanism;
  list.C_FindObjectsInit = find_init;
  list.C_FindObjects = find;
  list.C_Encrypt = seal;
  list.C_Decrypt = open_sealed;
  if (is("version 1")) list.version.major = 1;
  *out = &list;
  return CKR_OK;
}
