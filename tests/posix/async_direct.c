/* Asynchronous direct writes of one file, each followed by a buffered read of the same range. Usage: async_direct FILE SECONDS
   Prints the number of rounds; ends with 1 if a read gave bytes that were there before the write. Other processes should
   read the file meanwhile, so that its pages are cached. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LENGTH 655360

static char read_back[LENGTH];

int main(int count, char **arguments) {
    if (count != 3) return 2;
    int direct = open(arguments[1], O_CREAT | O_RDWR | O_DIRECT, 0644), buffered = open(arguments[1], O_RDONLY);
    char *data;
    aio_context_t context = 0;
    if (direct < 0 || buffered < 0 || posix_memalign((void **)&data, 4096, LENGTH) || syscall(SYS_io_setup, 1, &context)) return 2;
    time_t end = time(NULL) + atoi(arguments[2]);
    long round = 0;
    for (; time(NULL) < end; round++) {
        memset(data, 1 + round % 250, LENGTH);
        struct iocb request = {.aio_fildes = direct, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)data, .aio_nbytes = LENGTH};
        struct iocb *requests[] = {&request};
        struct io_event event;
        if (syscall(SYS_io_submit, context, 1, requests) != 1) return 2;
        if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1 || event.res != LENGTH) return 2;
        if (pread(buffered, read_back, LENGTH, 0) != LENGTH) return 2;
        if (memcmp(read_back, data, LENGTH)) {
            long old = 0;
            for (long at = 0; at < LENGTH; at++) old += read_back[at] != data[at];
            printf("round %ld: %ld of %d bytes are old ones\n", round, old, LENGTH);
            return 1;
        }
    }
    printf("%ld rounds\n", round);
    return 0;
}
