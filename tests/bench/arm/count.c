/* A plugin for qemu-user that counts the instructions that a program executes, all threads and
 * children together: -plugin count.so,out=FILE
 *
 * FILE, of 8 bytes, has the count in the order of this machine's bytes; it is mapped, so it also has
 * what a process did that left for another root directory or was killed.
 *
 * Distributions ship no header for plugins; what is used of QEMU's interface (version 1) is declared
 * here. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t,
                                          enum qemu_plugin_cb_flags, void *);

int qemu_plugin_version = 1;

static uint64_t *executed;

static void execute(unsigned int vcpu, void *instructions)
{
    (void)vcpu;
    __atomic_add_fetch(executed, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, execute, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    int file;

    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0)
        return 1;
    file = open(argv[0] + 4, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return 1;
    executed = mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (executed == MAP_FAILED)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
