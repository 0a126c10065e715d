/* What a Cortex-M3 does before main(): stack, data, handles of the emulator's console; and when it
   faults: it says so to the emulator, which then ends with an error. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char board_data[], board_data_end[], board_data_image[], board_bss[], board_bss_end[];
extern char board_stack[];

int main(int argc, char **argv); /* one that takes nothing does not look at them */
int __real_vsnprintf(char *out, size_t cap, const char *format, va_list list);
int __wrap_vsnprintf(char *out, size_t cap, const char *format, va_list list);
int __wrap_snprintf(char *out, size_t cap, const char *format, ...);
int __wrap_vprintf(const char *format, va_list list);
int __wrap_printf(const char *format, ...);
void initialise_monitor_handles(void);
void board_reset(void);
void board_fault(void);
void _fini(void);

void _fini(void)
{
}

void board_reset(void)
{
    memcpy(board_data, board_data_image, (size_t)(board_data_end - board_data));
    memset(board_bss, 0, (size_t)(board_bss_end - board_bss));
    initialise_monitor_handles();
    exit(main(0, NULL));
}

void board_fault(void)
{
    register uint32_t operation __asm__("r0") = 0x18;  /* exit ...            */
    register uint32_t reason __asm__("r1") = 0x20023;  /* ... a run-time error */
    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(reason));
    for (;;) {
    }
}

/* This newlib is built without %zu, which is %u here. The linker sends the tests' calls this way. */
static const char *board_format(char *copy, size_t cap, const char *format)
{
    size_t n = 0;
    bool inside = false; /* between the percent sign and its letter */
    for (const char *at = format; *at && n + 1 < cap; at++) {
        if (!inside || *at != 'z') copy[n++] = *at;
        inside = *at == '%' ? !inside : inside && strchr("0123456789.-+ #*z", *at);
    }
    copy[n] = '\0';
    return copy;
}

int __wrap_vsnprintf(char *out, size_t cap, const char *format, va_list list)
{
    char copy[512];
    return __real_vsnprintf(out, cap, board_format(copy, sizeof copy, format), list);
}

int __wrap_snprintf(char *out, size_t cap, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int len = __wrap_vsnprintf(out, cap, format, list);
    va_end(list);
    return len;
}

int __wrap_vprintf(const char *format, va_list list)
{
    char copy[512];
    return vfprintf(stdout, board_format(copy, sizeof copy, format), list);
}

int __wrap_printf(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int len = __wrap_vprintf(format, list);
    va_end(list);
    return len;
}

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))board_stack, board_reset, board_fault, board_fault, board_fault, board_fault,
    board_fault,
};
