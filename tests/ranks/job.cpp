// SPDX-License-Identifier: Apache-2.0
#include "ranks/job.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace tests {
namespace {

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

// The processes of a session that are not zombies, from /proc/<pid>/stat.
int processes_of_session(pid_t session) {
  int count = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text);
    const auto name_end = text.rfind(')');
    if (name_end == std::string::npos) continue;
    std::istringstream fields(text.substr(name_end + 1));
    char state = 0;
    pid_t parent = 0;
    pid_t group = 0;
    pid_t its_session = 0;
    fields >> state >> parent >> group >> its_session;
    if (its_session == session && state != 'Z') ++count;
  }
  return count;
}

// Never returns.
void become_mpirun(int ranks, const std::vector<std::string>& command,
                   const std::vector<std::string>& environment, int out, int err) {
  setsid();
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  for (const auto& variable : environment) putenv(strdup(variable.c_str()));
  std::vector<std::string> words = {MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n",
                                    std::to_string(ranks)};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

// Collects both pipes until mpirun is gone.
void collect(pid_t pid, std::array<pollfd, 2>& pipes, double deadline, JobEnd& end) {
  for (bool is_gone = false;;) {
    const int ready = poll(pipes.data(), pipes.size(), 5);
    for (std::size_t i = 0; i < pipes.size() && ready > 0; ++i) {
      std::array<char, 4096> bytes;
      if (pipes[i].fd < 0 || pipes[i].revents == 0) continue;
      const auto length = read(pipes[i].fd, bytes.data(), bytes.size());
      if (length <= 0) {
        pipes[i].fd = -1;
      } else {
        (i == 0 ? end.out : end.err).append(bytes.data(), static_cast<std::size_t>(length));
      }
    }
    if (is_gone && ready == 0) return;
    if (is_gone && pipes[0].fd < 0 && pipes[1].fd < 0) return;
    int status = 0;
    if (!is_gone && waitpid(pid, &status, WNOHANG) == pid) {
      is_gone = true;
      end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      end.seconds = now();
    }
    if (!is_gone && now() > deadline && !end.was_killed) {
      end.was_killed = true;
      kill(-pid, SIGKILL);
    }
  }
}

}  // namespace

std::vector<std::string> JobEnd::causes() const {
  std::vector<std::string> lines;
  std::istringstream text(err);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("rank ") || line.starts_with("the ranks have parted")) {
      lines.push_back(line);
    }
  }
  return lines;
}

JobEnd run_job(int ranks, const std::vector<std::string>& command,
               const std::vector<std::string>& environment, double allowed_seconds) {
  std::array<int, 2> out, err;
  if (pipe(out.data()) != 0 || pipe(err.data()) != 0) throw std::runtime_error("pipe failed");
  const double start = now();
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("fork failed");
  if (pid == 0) become_mpirun(ranks, command, environment, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  std::array<pollfd, 2> pipes = {{{out[0], POLLIN, 0}, {err[0], POLLIN, 0}}};
  JobEnd end;
  collect(pid, pipes, start + allowed_seconds, end);
  close(out[0]);
  close(err[0]);
  const auto fault = end.out.find("fault at ");
  if (fault != std::string::npos) {
    end.after_fault = end.seconds - std::strtod(end.out.c_str() + fault + 9, nullptr) * 1e-9;
  }
  end.seconds -= start;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  end.orphans = processes_of_session(pid);
  return end;
}

std::uint64_t seed_of_trials() {
  const char* text = std::getenv("TORCH_ACCELERATED_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

int number_of_trials(int in_short, int in_long) {
  return std::getenv("TORCH_ACCELERATED_LONG") == nullptr ? in_short : in_long;
}

}  // namespace tests
