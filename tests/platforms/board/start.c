/* What a Cortex-M3 does before main(): stack, data, handles of the emulator's console; and when it
   faults: it says so to the emulator, which then ends with an error. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern char board_data[], board_data_end[], board_data_image[], board_bss[], board_bss_end[];
extern char board_stack[];

int main(void);
void initialise_monitor_handles(void);
void board_reset(void);
void board_fault(void);

void board_reset(void)
{
    memcpy(board_data, board_data_image, (size_t)(board_data_end - board_data));
    memset(board_bss, 0, (size_t)(board_bss_end - board_bss));
    initialise_monitor_handles();
    exit(main());
}

void board_fault(void)
{
    register uint32_t operation __asm__("r0") = 0x18;  /* exit ...            */
    register uint32_t reason __asm__("r1") = 0x20023;  /* ... a run-time error */
    __asm__ volatile("bkpt 0xAB" : : "r"(operation), "r"(reason));
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))board_stack, board_reset, board_fault, board_fault, board_fault, board_fault,
    board_fault,
};
