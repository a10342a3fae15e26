# One image for both roles; the command chooses: `node src/api/main.ts` (as it is) or `node src/workers/main.ts`.
# To be sure of the bytes, name them: `docker build --build-arg NODE_IMAGE=node:24-alpine@sha256:…`, by what `docker buildx imagetools inspect node:24-alpine` says.
ARG NODE_IMAGE=node:24-alpine
FROM $NODE_IMAGE AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund

FROM $NODE_IMAGE
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 HEALTH_PORT=8081
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json ./
COPY src ./src
# /docs/errors is made from it.
COPY docs ./docs
# Node runs the TypeScript as it is: nothing is built, and stack traces name the lines that one sees in the editor.
USER node
EXPOSE 8080 8081
# Both roles answer /health/ready, each on a port of its own; only one of them is open in a container.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
  CMD wget -qO /dev/null "http://127.0.0.1:$PORT/health/ready" || wget -qO /dev/null "http://127.0.0.1:$HEALTH_PORT/health/ready"
STOPSIGNAL SIGTERM
CMD ["node", "src/api/main.ts"]
